"""AnnData files: slides of cells alone, from the file to the picture."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_expression, read_source
from spatialformer_core.service.view import SlideView
from spatialformer_core.slides import SlideStore, ingest

SAMPLE = SampleMetadata(
    donor="d", block="b", condition="c", tissue="t", species="s", assay="MERFISH"
)


@pytest.fixture
def tissue(bundles):
    return bundles.Tissue()


@pytest.fixture
def path(bundles, tissue, tmp_path) -> Path:
    found = tmp_path / "source.h5ad"
    bundles.write_h5ad(found, tissue)
    return found


def normalise(path: Path, *, keep: str | None = None) -> None:
    """Make X fractional as scanpy's log1p does; keep the counts where AnnData keeps them."""
    with h5py.File(path, "a") as file:
        if keep is not None:
            file.copy(file["X"], file.require_group(keep.rpartition("/")[0]), keep.split("/")[-1])
        if keep == "raw/X":
            file.copy(file["var"], file["raw"], "var")
        file["X/data"][...] = np.log1p(file["X/data"][:])


def test_cells_without_transcripts_are_a_slide(path, tissue, tmp_path) -> None:
    store = SlideStore(tmp_path / "home")
    report = ingest(path, store, name="Cells", sample=SAMPLE, qc=QcThresholds())
    assert (report.cells_in, report.transcripts_in, report.mismatch) == (40, 0, None)
    told = " ".join(report.missing)
    for part in ("No transcripts", "No cell outlines", "No image", "no unit"):
        assert part in told
    slide = store.open("cells")
    assert store.verify("cells") == []
    assert np.array_equal(slide.counts.toarray(), tissue.counts[:, :20])
    np.testing.assert_allclose(slide.xy_um, tissue.xy, rtol=1e-6)
    assert slide.meta.has_transcripts is False
    with pytest.raises(SpatialFormerError, match="no transcripts"):
        slide.transcripts_by_cell()
    assert slide.polygons() is None
    view = SlideView(slide)
    assert view.info()["has_transcripts"] is False
    assert view.polygon_tile(0, 0) is None
    nothing = view.transcript_tile(0, 0, ["GENE01"])
    assert nothing is not None
    assert np.frombuffer(nothing, "<u4").tolist() == [0]
    assert len(view.points()) > 40 * 4
    assert view.cell(3)["id"] == "cell-3"


@pytest.mark.parametrize("keep", ["layers/counts", "raw/X"])
def test_counts_are_taken_from_where_they_are(path, tissue, keep: str) -> None:
    normalise(path, keep=keep)
    assert np.array_equal(read_source(path).cells.counts.toarray(), tissue.counts[:, :20])


def test_normalised_expression_alone_is_refused(path) -> None:
    normalise(path)
    with pytest.raises(SpatialFormerError, match="fractions") as error:
        read_source(path)
    assert error.value.where == "source.h5ad"
    assert "layers['counts']" in (error.value.fix or "")


def test_pixels_are_scaled_when_asked(path, tissue) -> None:
    data = read_source(path, um_per_px=0.5)
    np.testing.assert_allclose(data.cells.xy_um, tissue.xy * 0.5)
    assert not any("no unit" in sentence for sentence in data.missing)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e4, float("nan"), float("inf")])
def test_absurd_scale_is_refused(path, scale: float) -> None:
    with pytest.raises(SpatialFormerError, match="no scale"):
        read_source(path, um_per_px=scale)


def test_scale_is_refused_where_units_are_known(bundles, tissue, tmp_path) -> None:
    folder = bundles.write_table_folder(tmp_path / "table", tissue)
    with pytest.raises(SpatialFormerError, match="not scaled"):
        read_source(folder, um_per_px=0.5)


def test_real_normalised_slice_is_refused(shared_data) -> None:
    """6,509 cells of mouse hypothalamus, published as normalised expression only."""
    folder = shared_data / "merfish_mouse_poa"
    for source in (folder, folder / "cells.h5ad"):
        with pytest.raises(SpatialFormerError, match="fractions"):
            read_source(source)


def test_expression_is_read_with_and_without_coordinates(path, tissue):
    placed = read_expression(path)
    with h5py.File(path, "a") as file:
        genes = file["var"]
        ids = np.array([f"ENSG{k:011d}" for k in range(len(genes[genes.attrs["_index"]]))], "S")
        genes.create_dataset("gene_ids", data=ids)
        del file["obsm"]
        for name in [name for name in file["obs"] if "centroid" in name]:
            del file["obs"][name]
    loose = read_expression(path)
    with pytest.raises(SpatialFormerError, match="no coordinates"):
        read_source(path)
    assert placed.xy_um is not None
    assert placed.xy_um.shape == (len(placed.cell_ids), 2)
    assert placed.gene_ids is None
    assert loose.xy_um is None
    assert (loose.counts != placed.counts).nnz == 0
    assert loose.gene_ids is not None
    assert len(loose.gene_ids) == len(loose.genes) == loose.counts.shape[1]
    assert loose.groups.keys() == placed.groups.keys()


def test_expression_is_read_through_the_guard(path, tmp_path):
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/X")
    with pytest.raises(SpatialFormerError, match="ExternalLink"):
        read_expression(path)
