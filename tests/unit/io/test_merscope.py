"""MERSCOPE exports: tables, outlines in planes and parts, mosaics, the public reader's view."""

from __future__ import annotations

import contextlib
import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source
from spatialformer_core.io.pyramid import write_pyramid


@pytest.fixture
def tissue(bundles):
    return bundles.Tissue()


@pytest.fixture
def folder(exports, tissue, tmp_path):
    return exports.write_merscope(tmp_path / "region_0", tissue)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_whole_export(exports, tissue, tmp_path, suffix: str) -> None:
    folder = exports.write_merscope(tmp_path / "region_0", tissue, suffix=suffix)
    data = read_source(folder)
    cells = data.cells
    assert cells.cell_ids.tolist() == exports.merscope_ids(tissue)
    assert np.array_equal(cells.xy_um, tissue.xy)
    assert cells.genes == tuple(tissue.genes)
    assert cells.control_names == ("Blank-0", "Blank-1")
    assert np.array_equal(cells.counts.toarray(), tissue.count(0)[:, :20])
    assert cells.n_control_counts == tissue.count(0)[:, 20:].sum()
    found = data.transcripts
    np.testing.assert_allclose(found.xyz_um, tissue.tx_xyz[:, :2], atol=1e-3)
    assert np.array_equal(found.cell, tissue.tx_cell)
    assert [found.feature_names[i] for i in found.feature[:9]] == [
        exports.merscope_features(tissue)[i] for i in tissue.tx_feature[:9]
    ]


def test_largest_part_of_the_fullest_plane_is_the_outline(folder, exports, tissue) -> None:
    data = read_source(folder)
    assert data.notes["outlines_in_several_parts"] == 1
    corners = data.polygons.xy_um[:5].astype(np.float64)
    np.testing.assert_allclose(corners.min(axis=0), tissue.xy[0] - 4, atol=1e-4)
    np.testing.assert_allclose(corners.max(axis=0), tissue.xy[0] + 4, atol=1e-4)
    assert any("plane 0 is drawn, one of 2" in sentence for sentence in data.missing)
    path = folder / "cell_boundaries.parquet"
    table = pq.read_table(path)
    # Ten cells lose their outline in the lowest plane.
    pq.write_table(table.slice(10), path)
    told = read_source(folder).missing
    assert any("plane 1 is drawn, one of 2" in sentence for sentence in told)


def test_mosaics_of_the_middle_plane_lie_where_the_matrix_says(folder, tmp_path) -> None:
    (image,) = read_source(folder).images
    assert image.channels == ("DAPI", "PolyT")
    assert [path.name for path in image.paths] == ["mosaic_DAPI_z3.tif", "mosaic_PolyT_z3.tif"]
    pixel = np.linalg.inv(image.um_from_px) @ [100.0, 50.0, 1.0]
    np.testing.assert_allclose(pixel, [240, 160, 1])
    info = write_pyramid(image, tmp_path / "out.tif")
    assert (info.width, info.height, info.channels) == (80, 64, ("DAPI", "PolyT"))
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").unlink()
    data = read_source(folder)
    assert data.images == ()
    assert any("cannot be placed" in sentence for sentence in data.missing)


def test_parts_that_may_be_absent_are_reported(folder) -> None:
    shutil.rmtree(folder / "images")
    (folder / "detected_transcripts.csv").unlink()
    (folder / "cell_boundaries.parquet").unlink()
    (folder / "cell_boundaries").mkdir()
    (folder / "cell_boundaries" / "feature_data_0.hdf5").write_bytes(b"x")
    data = read_source(folder)
    told = " ".join(data.missing)
    for part in ("No transcripts", "HDF5 files of an early version", "No image"):
        assert part in told
    assert data.transcripts.n == 0


@pytest.mark.parametrize("name", ["cell_by_gene.csv", "cell_metadata.csv"])
def test_needed_file(folder, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SpatialFormerError, match=f"lacks {name}"):
        read_source(folder)


def test_transcripts_without_cells_lie_outside(folder) -> None:
    path = folder / "detected_transcripts.parquet"
    pq.write_table(
        pa.table({"global_x": [1.0], "global_y": [2.0], "gene": ["GENE00"], "global_z": [0.0]}),
        path,
    )
    data = read_source(folder)
    assert data.transcripts.cell.tolist() == [-1]
    assert any("names no cells" in sentence for sentence in data.missing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parity
def test_equals_spatialdata_io(folder) -> None:
    from spatialdata_io import merscope

    with contextlib.redirect_stdout(io.StringIO()):
        theirs = merscope(folder)
    ours = read_source(folder)
    (table,) = theirs.tables.values()
    assert table.obs_names.tolist() == ours.cells.cell_ids.tolist()
    assert table.var_names.tolist() == list(ours.cells.genes)
    assert np.array_equal(np.asarray(table.X), ours.cells.counts.toarray())
    np.testing.assert_allclose(table.obsm["spatial"], ours.cells.xy_um, rtol=1e-12)
    (points,) = theirs.points.values()
    points = points.compute()
    xy = points[["x", "y"]].to_numpy()
    np.testing.assert_allclose(xy, ours.transcripts.xyz_um, atol=1e-3)
    names = [ours.transcripts.feature_names[i] for i in ours.transcripts.feature]
    assert points["gene"].astype(str).tolist() == names
    (shapes,) = theirs.shapes.values()
    assert shapes.index.tolist() == ours.cells.cell_ids.tolist()
    largest = [max(shape.geoms, key=lambda part: part.area) for shape in shapes.geometry]
    rings = np.concatenate([np.asarray(part.exterior.coords) for part in largest])
    np.testing.assert_allclose(rings, ours.polygons.xy_um, atol=1e-3)
