"""SpatialData stores: both versions of zarr, choice of elements, micrometres, our own stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import SourceData, read_source
from spatialformer_core.io.spatialdata_store_parts import choose
from spatialformer_core.slides import SlideStore, ingest

SAMPLE = SampleMetadata(
    donor="d", block="b", condition="c", tissue="t", species="s", assay="Xenium"
)
POINTS = "points/transcripts/points.parquet/part.0.parquet"


@pytest.fixture(scope="module")
def tissue(bundles):
    return bundles.Tissue()


@pytest.fixture(scope="module")
def whole(exports, tissue, tmp_path_factory) -> Path:
    """A store in zarr version 3; copy from it."""
    return exports.write_spatialdata(tmp_path_factory.mktemp("stores") / "v3.zarr", tissue)


@pytest.fixture
def store(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "source.zarr"))


def check_equal(data: SourceData, tissue) -> None:
    """Compare with the tissue that was written."""
    cells, found = data.cells, data.transcripts
    assert cells.cell_ids.tolist() == tissue.ids.tolist()
    assert np.array_equal(cells.counts.toarray(), tissue.counts[:, :20])
    assert cells.genes == tuple(tissue.genes)
    assert cells.control_names == tuple(tissue.controls)
    np.testing.assert_allclose(cells.xy_um, tissue.xy)
    np.testing.assert_allclose(cells.area_um2, tissue.area, rtol=1e-6)
    assert cells.groups["celltype_marker"].codes.tolist() == tissue.types.tolist()
    np.testing.assert_allclose(found.xyz_um, tissue.tx_xyz, atol=1e-3)
    assert np.array_equal(found.cell, tissue.tx_cell)
    assert np.array_equal(found.qv, tissue.tx_qv.astype(np.float32))
    assert [found.feature_names[i] for i in found.feature] == [
        tissue.features[i] for i in tissue.tx_feature
    ]
    assert data.counts_min_qv == 20
    corners = data.polygons.xy_um.reshape(40, 5, 2)
    np.testing.assert_allclose(corners.min(axis=1), tissue.xy - 4, atol=1e-4)
    assert data.nuclei.cell.tolist() == list(range(40))
    corners = data.nuclei.outlines.xy_um.reshape(40, 5, 2)
    np.testing.assert_allclose(corners.max(axis=1), tissue.xy + 1, atol=1e-4)


def check_images(data: SourceData) -> None:
    """Compare with the pictures that were written: pixels in common are 0.5 um."""
    he, stain = sorted(data.images, key=lambda image: image.kind)
    assert (he.kind, stain.kind, stain.channels) == ("he", "stain", ("DAPI",))
    np.testing.assert_allclose(stain.um_from_px, np.diag([0.5, 0.5, 1]))
    np.testing.assert_allclose(he.um_from_px, [[0, 1, 5], [1, 0, 10], [0, 0, 1]])
    y, x = np.mgrid[:60, :80]
    assert np.array_equal(np.asarray(stain.pixels)[0], y * 9 + x)
    assert np.array_equal(np.asarray(he.pixels)[2], y + x)


def test_version_3(whole, tissue) -> None:
    data = read_source(whole)
    check_equal(data, tissue)
    check_images(data)
    assert data.missing == ()


def test_version_2(exports, tissue, tmp_path) -> None:
    data = read_source(exports.write_spatialdata(tmp_path / "v2.zarr", tissue, version=2))
    check_equal(data, tissue)
    check_images(data)


def test_its_slide_opens_with_its_pictures(store, tissue, tmp_path) -> None:
    slides = SlideStore(tmp_path / "home")
    report = ingest(store, slides, name="Zarr", sample=SAMPLE, qc=QcThresholds())
    assert report.cells_in == 40
    slide = slides.open("zarr")
    assert {image.kind for image in slide.meta.images} == {"he", "stain"}
    assert slide.image_path("he").is_file()
    assert slide.meta.source == "source.zarr"


def test_our_own_store_gives_the_same_slide(bundles, tmp_path) -> None:
    """Xenium -> slide -> its slide.zarr -> slide: nothing is lost but images and nuclei."""
    tissue = bundles.Tissue(seed=3)
    slides = SlideStore(tmp_path / "home")
    source = bundles.write_xenium(tmp_path / "source", tissue)
    ingest(source, slides, name="First", sample=SAMPLE, qc=QcThresholds())
    first = slides.open("first")
    again = ingest(first.zarr_path, slides, name="Again", sample=SAMPLE, qc=QcThresholds())
    second = slides.open("again")
    assert second.cell_ids.tolist() == first.cell_ids.tolist()
    for name in ("xy_um", "area_um2", "n_transcripts", "n_genes_per_cell", "passes_qc"):
        assert np.array_equal(getattr(second, name), getattr(first, name)), name
    assert (second.counts != first.counts).nnz == 0
    assert second.genes == first.genes
    assert second.group_keys == first.group_keys
    for ours, theirs in ((second.polygons(), first.polygons()),):
        assert np.array_equal(ours.indptr, theirs.indptr)
        assert np.array_equal(ours.xy_um, theirs.xy_um)
    ours, theirs = second.transcripts_by_cell(), first.transcripts_by_cell()
    for name in ("indptr", "xyz_um", "gene", "qv"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert second.meta.n_transcripts == first.meta.n_transcripts
    assert not any("no unit" in sentence for sentence in again.missing)


def test_our_store_of_cells_alone_gives_the_same_slide(bundles, tmp_path) -> None:
    bundles.write_h5ad(tmp_path / "cells.h5ad", bundles.Tissue())
    slides = SlideStore(tmp_path / "home")
    ingest(tmp_path / "cells.h5ad", slides, name="First", sample=SAMPLE, qc=QcThresholds())
    first = slides.open("first")
    ingest(first.zarr_path, slides, name="Again", sample=SAMPLE, qc=QcThresholds())
    second = slides.open("again")
    assert np.array_equal(second.xy_um, first.xy_um)
    assert (second.counts != first.counts).nnz == 0
    assert second.group_keys == first.group_keys


def test_lost_gene_names_are_counted_from_the_points(store, tissue) -> None:
    shutil.rmtree(store / "tables" / "table" / "var")
    header = store / "zarr.json"
    values = json.loads(header.read_text())
    inner = values["consolidated_metadata"]["metadata"]
    values["consolidated_metadata"]["metadata"] = {
        key: entry for key, entry in inner.items() if "/var" not in key
    }
    header.write_text(json.dumps(values))
    cells = read_source(store).cells
    assert cells.genes == tuple(sorted(tissue.genes))
    assert np.array_equal(cells.counts.toarray(), tissue.counts[:, :20])


def test_no_table_makes_cells_of_outlines(store, tissue) -> None:
    shutil.rmtree(store / "tables")
    data = read_source(store)
    assert data.cells.cell_ids.tolist() == tissue.ids.tolist()
    assert np.array_equal(data.cells.counts.toarray(), tissue.counts[:, :20])
    np.testing.assert_allclose(data.cells.xy_um, tissue.xy, atol=1e-4)
    told = " ".join(data.missing)
    assert "No table: the cells are those of cell_boundaries" in told
    assert "counted from the transcripts, quality 20 and better" in told


def test_no_points_is_a_slide_without_transcripts(store, tissue) -> None:
    shutil.rmtree(store / "points")
    data = read_source(store)
    assert data.transcripts.n == 0
    # Without points the outlines' own coordinates are micrometres.
    np.testing.assert_allclose(data.polygons.xy_um[:5].mean(axis=0), tissue.xy[0], atol=2)
    check_images(data)


def test_choices_are_said(store) -> None:
    for kind, name, other in (
        ("points", "transcripts", "more"),
        ("shapes", "cell_boundaries", "cells_old"),
        ("images", "morphology_focus", "morphology_mip"),
    ):
        shutil.copytree(store / kind / name, store / kind / other)
    (store / "zarr.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in json.loads((store / "zarr.json").read_text()).items()
                if k[:4] != "cons"
            }
        )
    )
    told = read_source(store).missing
    assert "Several points: transcripts is read, not more." in told
    assert "Several cell outlines: cell_boundaries is read, not cells_old." in told
    assert "morphology_mip: left out, morphology_focus shows the same." in told


def test_pixels_without_a_unit(exports, bundles, tmp_path) -> None:
    """An identity to the common system says nothing: um are assumed, absurd cells refused."""
    small = bundles.Tissue()
    plain = exports.write_spatialdata(tmp_path / "plain.zarr", small, pixel_um=1.0)
    assert any("states no unit" in sentence for sentence in read_source(plain).missing)
    scaled = read_source(plain, um_per_px=0.5)
    np.testing.assert_allclose(scaled.cells.xy_um, small.xy * 0.5, atol=1e-6)
    np.testing.assert_allclose(
        scaled.transcripts.xyz_um[:, :2], small.tx_xyz[:, :2] * 0.5, atol=1e-3
    )
    table = pq.read_table(plain / "shapes" / "cell_boundaries" / "shapes.parquet")
    wide = shapely.box(*(small.xy - 60).T, *(small.xy + 60).T)
    column = table.schema.get_field_index("geometry")
    blobs = pa.array(shapely.to_wkb(wide).tolist(), table.schema.field("geometry").type)
    table = table.set_column(column, table.schema.field("geometry"), blobs)
    pq.write_table(table, plain / "shapes" / "cell_boundaries" / "shapes.parquet")
    with pytest.raises(SpatialFormerError, match="are no micrometres") as error:
        read_source(plain)
    assert "--um-per-px" in (error.value.fix or "")


def nuclei_correlation(image, nuclei: list, shift_um: tuple[float, float]) -> float:
    """Correlate a picture's first channel with being inside a nucleus, pixel by pixel."""
    shade = np.asarray(image.pixels)[0].astype(np.float64)
    y, x = np.mgrid[: shade.shape[0], : shade.shape[1]]
    pixel = np.stack([x + 0.5, y + 0.5], axis=-1).reshape(-1, 2)
    xy = pixel @ image.um_from_px[:2, :2].T + image.um_from_px[:2, 2] + shift_um
    area = shapely.union_all(nuclei)
    low, high = area.bounds[:2], area.bounds[2:]
    within = ((xy > low) & (xy < high)).all(axis=1)
    shapely.prepare(area)
    inside = shapely.contains_xy(area, xy[within, 0], xy[within, 1])
    return float(np.corrcoef(shade.ravel()[within], inside)[0, 1])


def test_real_breast_crop_lies_in_place(shared_data) -> None:
    """Transcripts in their cells, dark nuclei of the H&E and bright ones of DAPI in the nuclei."""
    data = read_source(shared_data / "xenium_breast_rep1_crop_he" / "xenium_sp_subset.zarr")
    assert data.cells.counts.shape == (122, 313)
    found, polygons = data.transcripts, data.polygons
    assert found.n == 23_691
    assert found.xyz_um.shape[1] == 3
    assert np.ptp(found.xyz_um[:, :2], axis=0).round().tolist() == [191, 162]
    assert data.counts_min_qv == 20
    # The crop cuts cells at its rim, so these have fewer transcripts than the instrument counted.
    outlines = [
        shapely.Polygon(polygons.xy_um[a:b])
        for a, b in zip(polygons.indptr[:-1], polygons.indptr[1:], strict=True)
    ]
    inside = found.cell >= 0
    own = np.array(outlines)[found.cell[inside]]
    xy = found.xyz_um[inside, :2].astype(np.float64)
    assert shapely.contains_xy(own, xy[:, 0], xy[:, 1]).mean() > 0.95
    assert shapely.contains_xy(own, xy[:, 0] + 10, xy[:, 1]).mean() < 0.4
    drawn = data.nuclei.outlines
    nuclei = [
        shapely.Polygon(drawn.xy_um[a:b])
        for a, b in zip(drawn.indptr[:-1], drawn.indptr[1:], strict=True)
    ]
    images = {image.name: image for image in data.images}
    for name, sign in (("he", -1), ("morphology_focus", 1)):
        here = sign * nuclei_correlation(images[name], nuclei, (0, 0))
        shifted = [
            sign * nuclei_correlation(images[name], nuclei, shift)
            for shift in ((10, 0), (-10, 0), (0, 10), (0, -10))
        ]
        assert here > 0.7, name
        assert max(shifted) < 0.2, name


def test_real_cells_in_pixels(shared_data) -> None:
    source = shared_data / "merfish_u2os" / "merfish_sample.zarr"
    with pytest.raises(SpatialFormerError, match="are no micrometres"):
        read_source(source)
    data = read_source(source, um_per_px=0.1)
    assert data.cells.counts.shape == (15, 135)
    assert data.transcripts.n == 174_827
    assert data.cells.counts.sum() == 174_827
    assert len(data.nuclei.cell) == 13


def test_table_of_several_regions_is_no_slide() -> None:
    """As the public CosMx reader writes one: a region per field of view."""
    table = SimpleNamespace(uns={"spatialdata_attrs": {"region": ["1_labels", "2_labels"]}})
    store = SimpleNamespace(points={}, shapes={}, tables={"table": table})
    with pytest.raises(SpatialFormerError, match="annotates 2 regions"):
        choose(store, None, "source.zarr")
