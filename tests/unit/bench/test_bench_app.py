"""The benchmark of the app: its slide is what it says, and what is missing is said."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.bench import BenchOptions, app_stage, browser, run, stages
from spatialformer_core.bench.large_slide import _Repeated, _Tiles
from spatialformer_core.bench.rows import bounded
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import CellTable, Groups, Polygons, SourceData, Transcripts


@pytest.fixture
def tissue():
    """Three cells with five transcripts, one of them a control and one outside of cells."""
    from scipy import sparse

    counts = sparse.csr_matrix(np.array([[2, 0], [0, 1], [0, 0]], np.int32))
    cells = CellTable(
        np.array(["a", "b", "c"]),
        np.array([[5.0, 5], [15, 5], [5, 15]]),
        None,
        counts,
        ("G", "H"),
        ("C",),
        0,
        {"cell_type": Groups(("x", "y"), np.array([0, 1, -1], np.int16))},
    )
    found = Transcripts(
        np.array([[5, 5, 0], [6, 5, 0], [15, 5, 0], [1, 1, 0], [20, 20, 0]], np.float32),
        np.array([0, 0, 1, 2, 1], np.int32),
        np.array([0, 0, 1, 0, -1], np.int32),
        None,
        ("G", "H", "C"),
        np.array([0, 1, -1], np.int32),
    )
    outlines = Polygons(np.array([0, 3, 3, 6]), np.arange(12, dtype=np.float32).reshape(6, 2))
    return SourceData("Xenium", True, cells, found, outlines, (), None)


def test_the_large_slide_is_the_tissue_repeated(tissue):
    tiles = _Tiles(tissue, 2, 50, 0)
    data = tiles.data()
    assert len(set(data.cells.cell_ids.tolist())) == 12
    assert np.array_equal(data.cells.counts[9:12].toarray(), tissue.cells.counts.toarray())
    step = data.cells.xy_um[3:6] - data.cells.xy_um[:3]
    assert np.allclose(step, [tiles.side_um, 0])
    assert data.cells.groups["cell_type"].codes.tolist() == [0, 1, -1] * 4
    assert data.transcripts.n == 200
    # Controls are not served, so they are left out; what lies outside of cells stays outside.
    assert set(data.transcripts.feature.tolist()) <= {0, 1}
    inside = data.transcripts.cell >= 0
    tile = np.repeat(np.arange(4), 50)
    assert (data.transcripts.cell[inside] // 3 == tile[inside]).all()
    assert 0 < inside.sum() < 200
    assert data.polygons.indptr.tolist() == [0, 3, 3, 6, 9, 9, 12, 15, 15, 18, 21, 21, 24]


def test_pixels_are_repeated_when_they_are_asked_for():
    tile = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    whole = _Repeated(tile, 3)
    assert whole.shape == (1, 9, 12)
    assert np.array_equal(whole[0, slice(2, 7)], np.tile(tile[0], (3, 3))[2:7])


def test_a_missing_browser_is_said_and_skipped(monkeypatch):
    lacks = "no Chromium is installed"
    figures = (
        stages.Figure("lasso", app_stage.lasso, missing=lambda: lacks),
        stages.Figure("served", lambda options: [bounded("app", "x", 1.0, "s")]),
    )
    monkeypatch.setitem(stages.STAGES, "app", figures)
    said = []
    rows = list(run("app", BenchOptions(), progress=lambda done, of, text: said.append(text)))
    assert [row.name for row in rows] == ["x"]
    assert f"Skipping lasso: {lacks}" in said
    with pytest.raises(SpatialFormerError, match=lacks):
        list(run("app", BenchOptions(), only=("lasso",)))


def test_what_a_browser_lacks(monkeypatch):
    monkeypatch.setattr(browser, "browser_path", lambda: None)
    assert "Chromium" in browser.missing()
    monkeypatch.setattr(browser.importlib.util, "find_spec", lambda name: None)
    assert "playwright" in browser.missing()


def test_the_references_are_programs():
    for name, text in browser.REFERENCES.items():
        compile(text, name, "exec")


def test_every_figure_of_the_issue_has_a_limit():
    assert app_stage._LIMITS == {
        "first_view_vs_plotly": 4.0,
        "first_view_vs_pydeck": 7.0,
        "bytes_vs_plotly": 2.5,
        "bytes_vs_pydeck": 10.0,
    }
