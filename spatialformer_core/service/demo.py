"""The demo slide: simulated lung, so that the app opens on something whose truth is known.

Its granulomas are outlined already: a screen wants six regions, and nobody shall have to lasso six
before the first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.service.rois import import_rois
from spatialformer_core.service.settings import Limits

SLIDE_ID = "demo"
_CELLS = 20_000
_SEED = 1
_GRANULOMAS = "granulomas.geojson"
_SAMPLE = SampleMetadata(
    donor="simulated-1",
    block="1",
    condition="Disease",
    tissue="Lung",
    species="Human",
    assay="Xenium",
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The demo slide, and whether this call made it."""

    slide_id: str
    created: bool


def prepare_demo(
    home: Path,
    *,
    cells: int = _CELLS,
    seed: int = _SEED,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Prepared:
    """Simulate the demo tissue into the home's sources and ingest it, unless it is there.

    Parameters
    ----------
    home
        The home folder.
    cells, seed
        Of the simulation; a bundle that is there already is used as it is.

    Raises
    ------
    Cancelled
        If it was cancelled; a finished bundle stays and is used next time.
    """
    from spatialformer_core.simulate import SimulationSettings, simulate
    from spatialformer_core.slides import SlideStore, ingest

    store = SlideStore(home)
    if store.exists(SLIDE_ID):
        return Prepared(SLIDE_ID, created=False)
    bundle = home / "sources" / "demo"
    if not files.is_complete(bundle):
        settings = SimulationSettings(seed=seed, cells=cells, donor=_SAMPLE.donor)
        simulate(bundle, settings, progress=staged(progress, 0.0, 0.6), cancel=cancel)
    ingest(
        bundle,
        store,
        name=SLIDE_ID,
        sample=_SAMPLE,
        qc=QcThresholds(),
        progress=staged(progress, 0.6, 1.0),
        cancel=cancel,
    )
    slide = store.open(SLIDE_ID)
    if not slide.rois():
        import_rois(slide, (bundle / _GRANULOMAS).read_text("utf-8"), Limits())
    return Prepared(SLIDE_ID, created=True)
