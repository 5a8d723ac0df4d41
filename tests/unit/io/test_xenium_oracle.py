"""The public reader opens a complete bundle too: both must see the same slide, in every version."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import zarr

from spatialformer_core.io import SourceData, read_source

pytestmark = [pytest.mark.slow, pytest.mark.parity]
FOCUS = "morphology_focus/morphology_focus_0000.ome.tif"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from spatialformer_core.simulate import SimulationSettings, simulate

    folder = tmp_path_factory.mktemp("oracle") / "bundle"
    simulate(folder, SimulationSettings(seed=2, cells=300))
    return folder


def opened(folder: Path):
    """Open a bundle with the public reader; tables, points, polygons and images."""
    from spatialdata_io import xenium

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xenium(folder, cells_labels=False, nucleus_labels=False)


def restate(folder: Path, version: str) -> None:
    path = folder / "experiment.xenium"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"analysis_sw_version": version}))


def version_1(folder: Path) -> None:
    """Images flat, no labels in the outlines, cells' archive with mask values and no sets."""
    restate(folder, "xenium-1.7.0.2")
    for name in ("morphology_focus.ome.tif", "morphology_mip.ome.tif"):
        shutil.copyfile(folder / FOCUS, folder / name)
    shutil.rmtree(folder / "morphology_focus")
    for name in ("cell_boundaries.parquet", "nucleus_boundaries.parquet"):
        table = pq.read_table(folder / name)
        pq.write_table(table.drop_columns(["label_id"]), folder / name)
    path = folder / "cells.zarr.zip"
    old = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
    columns = [str(name) for name in old["cell_summary"].attrs["column_names"]][:7]
    store = zarr.storage.ZipStore(folder / "new.zip", mode="w")
    new = zarr.group(store, zarr_format=2, attributes=dict(old.attrs) | {"major_version": 5})
    n = old["cell_id"].shape[0]
    new.create_array("cell_id", data=old["cell_id"][:])
    summary = old["cell_summary"][:][:, :7]
    new.create_array("cell_summary", data=summary, attributes={"column_names": columns})
    new.create_array("seg_mask_value", data=np.arange(1, n + 1, dtype=np.uint32))
    for which in "01":
        new.create_array(f"masks/{which}", data=old[f"masks/{which}"][:], chunks=(512, 512))
    store.close()
    (folder / "new.zip").replace(path)


def version_2(folder: Path) -> None:
    restate(folder, "xenium-2.0.0.10")


def version_4(folder: Path) -> None:
    restate(folder, "xenium-4.0.0.1")
    (folder / FOCUS).rename(folder / "morphology_focus" / "ch0000_dapi.ome.tif")


VERSIONS = {"1": version_1, "2": version_2, "3": lambda _: None, "4": version_4}


@pytest.fixture(params=VERSIONS)
def versioned(request, bundle, tmp_path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    VERSIONS[request.param](folder)
    return folder


def rings(shapes) -> list[list[list[float]]]:
    return [np.asarray(s.exterior.coords, np.float32)[:-1].tolist() for s in shapes.geometry]


def our_rings(polygons) -> list[list[list[float]]]:
    """Outlines that are not empty, without the vertex that closes them."""
    pairs = zip(polygons.indptr, polygons.indptr[1:], strict=False)
    parts = [polygons.xy_um[a:b].tolist() for a, b in pairs if b > a]
    return [part[:-1] if part[0] == part[-1] else part for part in parts]


@pytest.mark.filterwarnings("ignore")
def test_equals_spatialdata_io(versioned) -> None:
    from spatialdata.transformations import get_transformation

    ours, theirs = read_source(versioned), opened(versioned)
    table = theirs.tables["table"]
    assert table.obs["cell_id"].astype(str).tolist() == ours.cells.cell_ids.tolist()
    assert table.var_names.tolist() == list(ours.cells.genes)
    assert table.var["gene_ids"].tolist() == list(ours.cells.gene_ids)
    assert (table.X.astype(np.int64) != ours.cells.counts).nnz == 0
    np.testing.assert_allclose(table.obsm["spatial"], ours.cells.xy_um)
    points = theirs.points["transcripts"].compute()
    assert np.array_equal(points[["x", "y", "z"]].to_numpy(np.float32), ours.transcripts.xyz_um)
    names = np.append(ours.cells.cell_ids, "UNASSIGNED")[ours.transcripts.cell]
    assert (points["cell_id"].astype(str).to_numpy() == names).all()
    flags = points["overlaps_nucleus"].to_numpy().astype(bool)
    assert np.array_equal(flags, ours.transcripts.overlaps_nucleus)
    assert rings(theirs.shapes["cell_boundaries"]) == our_rings(ours.polygons)
    assert rings(theirs.shapes["nucleus_boundaries"]) == our_rings(ours.nuclei.outlines)
    stain = next(i for i in ours.images if i.kind == "stain")
    assert len(stain.paths) == 1
    # Theirs maps H&E pixels to morphology pixels, ours to micrometres.
    he = next(image for image in ours.images if image.kind == "he")
    matrix = get_transformation(theirs.images["he_image"]).to_affine_matrix(("x", "y"), ("x", "y"))
    pixel_um = stain.um_from_px[0, 0]
    np.testing.assert_allclose(np.diag([pixel_um, pixel_um, 1]) @ matrix, he.um_from_px)


def as_text(folder: Path) -> None:
    """Replace the Parquet tables by csv.gz."""
    for path in folder.glob("*s.parquet"):
        stream = io.BytesIO()
        pc.write_csv(pq.read_table(path), stream)
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(stream.getvalue(), 1))
        path.unlink()


def same_molecules(found: SourceData, wanted: SourceData) -> float:
    """Compare all but the cells of the molecules, and return the share of equal ones."""
    sides = []
    for data in (found, wanted):
        moved = data.transcripts
        order = np.lexsort(moved.xyz_um.T)
        sides.append((moved.xyz_um[order], np.array(moved.feature_names)[moved.feature][order],
                      moved.qv[order], moved.cell[order]))  # fmt: skip
    for mine, theirs in zip(sides[0][:3], sides[1][:3], strict=True):
        assert np.array_equal(mine, theirs)
    return float((sides[0][3] == sides[1][3]).mean())


def test_text_gives_the_same_slide(bundle, tmp_path) -> None:
    wanted = read_source(bundle)
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    as_text(folder)
    found = read_source(folder)
    assert same_molecules(found, wanted) == 1
    assert np.array_equal(found.cells.xy_um, wanted.cells.xy_um)
    assert our_rings(found.polygons) == our_rings(wanted.polygons)
    assert our_rings(found.nuclei.outlines) == our_rings(wanted.nuclei.outlines)
    assert np.array_equal(found.nuclei.cell, wanted.nuclei.cell)


def test_cells_of_molecules_are_found_in_the_masks(bundle, tmp_path) -> None:
    """The masks are outlines drawn in pixels: at a border a molecule may change sides."""
    wanted = read_source(bundle)
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    table = pq.read_table(folder / "transcripts.parquet")
    (folder / "transcripts.parquet").unlink()
    names = sorted(set(table.column("feature_name").to_pylist()))
    number = {name: i for i, name in enumerate(names)}
    xyz = np.column_stack([table.column(f"{axis}_location").to_numpy() for axis in "xyz"])
    store = zarr.storage.ZipStore(folder / "transcripts.zarr.zip", mode="w")
    tile = zarr.group(store, zarr_format=2, attributes={"gene_names": names}).create_group(
        "grids/0/0,0"
    )
    tile.create_array("location", data=xyz.astype(np.float32))
    genes = [number[name] for name in table.column("feature_name").to_pylist()]
    tile.create_array("gene_identity", data=np.array(genes, np.uint16)[:, None])
    tile.create_array("quality_score", data=table.column("qv").to_numpy().astype(np.float32))
    tile.create_array("valid", data=np.ones((len(xyz), 1), np.uint8))
    store.close()
    assert same_molecules(read_source(folder), wanted) > 0.95
