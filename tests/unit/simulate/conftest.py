"""One slide in memory for the statistics, one small bundle on disk for the files."""

from __future__ import annotations

import pytest

from spatialformer_core.progress import never, silent
from spatialformer_core.simulate import SimulationSettings, simulate
from spatialformer_core.simulate.slide import simulate_slide


@pytest.fixture(scope="session")
def slide():
    settings = SimulationSettings(seed=5, cells=7000, granulomas=8, he=False)
    return simulate_slide(settings, silent, never)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "small"
    settings = SimulationSettings(seed=3, cells=400, he_pixel_size_um=1.0, pixel_size_um=0.85)
    report = simulate(out, settings)
    return out, report
