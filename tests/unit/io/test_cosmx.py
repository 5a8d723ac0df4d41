"""CosMx exports: any subset of the flat files, pixels of a known size, the public reader's view."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pyarrow.csv as pc
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source

UM = 0.12


@pytest.fixture
def tissue(bundles):
    return bundles.Tissue()


@pytest.fixture
def folder(exports, tissue, tmp_path):
    return exports.write_cosmx(tmp_path / "lung", tissue, um=UM)


def rewrite(path, change) -> None:
    """Change a CSV as a data frame."""
    frame = pc.read_csv(path).to_pandas()
    change(frame).to_csv(path, index=False)


def test_whole_export(folder, exports, tissue) -> None:
    data = read_source(folder, um_per_px=UM)
    cells = data.cells
    assert cells.cell_ids.tolist() == exports.cosmx_ids(tissue)
    np.testing.assert_allclose(cells.xy_um, tissue.xy, atol=1e-6)
    np.testing.assert_allclose(cells.area_um2, tissue.area, rtol=1e-5)
    assert cells.genes == tuple(tissue.genes)
    assert set(cells.control_names) == set(tissue.controls)
    assert np.array_equal(cells.counts.toarray(), tissue.count(0)[:, :20])
    assert cells.n_control_counts == tissue.count(0)[:, 20:].sum()
    found = data.transcripts
    np.testing.assert_allclose(found.xyz_um, tissue.tx_xyz[:, :2], atol=1e-3)
    assert np.array_equal(found.cell, tissue.tx_cell)
    named = [found.feature_names[i] for i in found.feature]
    assert named == [tissue.features[i] for i in tissue.tx_feature]
    assert (found.gene_of_feature[found.feature] < 0).sum() == (tissue.tx_feature >= 20).sum()
    _, vertices = tissue.outlines()
    np.testing.assert_allclose(data.polygons.xy_um, vertices, atol=1e-3)
    assert data.polygons.indptr.tolist() == list(range(0, 201, 5))


def test_transcripts_alone_are_a_slide(folder, exports, tissue) -> None:
    for name in ("exprMat_file", "metadata_file", "fov_positions_file"):
        (folder / f"S1_{name}.csv").unlink()
    (folder / "S1-polygons.csv").unlink()
    data = read_source(folder, um_per_px=UM)
    assert sorted(data.cells.cell_ids) == sorted(exports.cosmx_ids(tissue))
    row = [data.cells.cell_ids.tolist().index(name) for name in exports.cosmx_ids(tissue)]
    assert np.array_equal(data.cells.counts.toarray()[row], tissue.count(0)[:, :20])
    mean = [tissue.tx_xyz[tissue.tx_cell == i, :2].mean(axis=0) for i in range(40)]
    np.testing.assert_allclose(data.cells.xy_um[row], mean, atol=1e-3)
    told = " ".join(data.missing)
    for name in ("exprMat", "metadata", "polygons"):
        assert f"No {name} file" in told


@pytest.mark.parametrize("unit", ["px", "mm"])
def test_local_positions_go_through_the_field_of_view(folder, exports, tissue, unit) -> None:
    rewrite(folder / "S1_tx_file.csv", lambda f: f.drop(columns=["x_global_px", "y_global_px"]))
    columns = ["CenterX_global_px", "CenterY_global_px"]
    rewrite(folder / "S1_metadata_file.csv", lambda f: f.drop(columns=columns))
    if unit == "mm":
        origin = exports.FOV_PX * UM / 1e3
        values = {"FOV": [1, 2], "X_mm": origin[:, 0], "Y_mm": origin[:, 1]}
        exports.write_csv(folder / "S1_fov_positions_file.csv", values)
    data = read_source(folder, um_per_px=UM)
    np.testing.assert_allclose(data.transcripts.xyz_um, tissue.tx_xyz[:, :2], atol=1e-3)
    np.testing.assert_allclose(data.cells.xy_um, tissue.xy, atol=1e-3)
    (folder / "S1_fov_positions_file.csv").unlink()
    with pytest.raises(SpatialFormerError, match="field of view 1 lies"):
        read_source(folder, um_per_px=UM)


def test_size_of_a_pixel_is_never_guessed(folder) -> None:
    with pytest.raises(SpatialFormerError, match="how large one is") as error:
        read_source(folder)
    assert "0.12028" in str(error.value)
    assert "0.18" in str(error.value)


def test_size_of_a_pixel_is_read_where_both_units_are_stated(folder, exports, tissue) -> None:
    origin = exports.FOV_PX
    values = {"fov": [1, 2], "x_global_px": origin[:, 0], "y_global_px": origin[:, 1]}
    values |= {"x_global_mm": origin[:, 0] * UM / 1e3, "y_global_mm": origin[:, 1] * UM / 1e3}
    exports.write_csv(folder / "S1_fov_positions_file.csv", values)
    np.testing.assert_allclose(read_source(folder).cells.xy_um, tissue.xy, atol=1e-6)
    with pytest.raises(SpatialFormerError, match=r"said to be 0\.18 and 0\.12 um"):
        read_source(folder, um_per_px=0.18)
    (folder / "S1_fov_positions_file.csv").unlink()
    rewrite(folder / "S1_metadata_file.csv", lambda f: f.assign(**{"Area.um2": f["Area"] * UM**2}))
    np.testing.assert_allclose(read_source(folder).cells.xy_um, tissue.xy, atol=1e-6)


def test_cells_of_only_one_file_are_counted(folder) -> None:
    rewrite(folder / "S1_exprMat_file.csv", lambda f: f.iloc[3:])
    rewrite(folder / "S1_metadata_file.csv", lambda f: f.iloc[:-2])
    data = read_source(folder, um_per_px=UM)
    assert len(data.cells.cell_ids) == 35
    assert data.notes == {"cells_without_counts": 3, "cells_without_metadata": 2}
    assert data.transcripts.n_unlisted_cell > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parity
def test_equals_spatialdata_io(folder, exports) -> None:
    from spatialdata_io import cosmx

    exports.write_cosmx_pictures(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = cosmx(folder)
    ours = read_source(folder, um_per_px=UM)
    assert any("CellComposite" in sentence for sentence in ours.missing)
    table = theirs.tables["table"]
    # Theirs are called CELL_FOV and grouped as the files list them, ours FOV_CELL.
    names = ["_".join(reversed(name.split("_"))) for name in table.obs_names]
    assert names == ours.cells.cell_ids.tolist()
    genes = [name for name in table.var_names if name in ours.cells.genes]
    assert tuple(genes) == ours.cells.genes
    assert np.array_equal(table[:, genes].X.toarray(), ours.cells.counts.toarray())
    np.testing.assert_allclose(table.obsm["global"] * UM, ours.cells.xy_um)
    total = 0
    for fov in ("1", "2"):
        points = theirs.points[f"{fov}_points"].compute()
        there = ours.cells.cell_ids[ours.transcripts.cell]
        inside = ours.transcripts.cell >= 0
        mine = inside & np.char.startswith(there, f"{fov}_")
        named = points[points["cell_ID"].astype(int) > 0]
        assert len(named) == mine.sum()
        xy = named[["x_global_px", "y_global_px"]].to_numpy() * UM
        np.testing.assert_allclose(xy, ours.transcripts.xyz_um[mine], atol=1e-3)
        ids = [f"{fov}_{cell}" for cell in named["cell_ID"].astype(int)]
        assert ids == there[mine].tolist()
        total += len(points)
    assert total == ours.transcripts.n


def test_real_lung(shared_data) -> None:
    data = read_source(shared_data / "cosmx_lung12", um_per_px=0.18)
    assert (len(data.cells.cell_ids), data.transcripts.n) == (120, 25_825)
    assert len(data.cells.genes) == 960
    assert len(data.cells.control_names) == 20
    assert math.isclose(data.cells.counts.sum(), 18_783)
    import pandas as pd

    stated = pd.read_parquet(shared_data / "cosmx_lung12" / "transcripts.parquet")
    xy = stated[["x_location", "y_location"]].to_numpy()
    np.testing.assert_allclose(data.transcripts.xyz_um, xy, rtol=1e-6)
    names = stated["cell_id"].str.removeprefix("Lung12_").fillna("")
    ours = np.append(data.cells.cell_ids, "")[data.transcripts.cell]
    assert (ours == names.to_numpy()).all()
