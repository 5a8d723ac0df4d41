"""Xenium folders of every version and form: the same slide, whatever it is written in."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source, xenium_zarr
from spatialformer_core.io.records import Polygons, SourceData
from spatialformer_core.slides import SlideStore, ingest

PIXELS = np.arange(4_800, dtype=np.uint16).reshape(60, 80)


def ring_texts(polygons: Polygons) -> list[str]:
    return [
        str(polygons.xy_um[a:b].tolist())
        for a, b in zip(polygons.indptr, polygons.indptr[1:], strict=False)
    ]


def assert_same(found: SourceData, wanted: SourceData) -> None:
    """Compare two slides; transcripts may come in another order."""
    for name in ("cell_ids", "xy_um", "area_um2"):
        assert np.array_equal(getattr(found.cells, name), getattr(wanted.cells, name)), name
    for name in ("genes", "gene_ids", "control_names", "n_control_counts"):
        assert getattr(found.cells, name) == getattr(wanted.cells, name), name
    assert (found.cells.counts != wanted.cells.counts).nnz == 0
    rows = []
    for data in (found, wanted):
        moved = data.transcripts
        names = np.array(moved.feature_names)[moved.feature]
        order = np.lexsort((*moved.xyz_um.T,))
        columns = (moved.xyz_um, names, moved.cell, moved.qv, moved.overlaps_nucleus)
        rows.append([column[order] for column in columns])
    for mine, theirs in zip(*rows, strict=True):
        assert np.array_equal(mine, theirs)
    assert ring_texts(found.polygons) == ring_texts(wanted.polygons)
    assert np.array_equal(found.nuclei.cell, wanted.nuclei.cell)
    assert sorted(ring_texts(found.nuclei.outlines)) == sorted(ring_texts(wanted.nuclei.outlines))


@pytest.fixture(scope="module")
def wanted(all_forms, xenium_forms, tmp_path_factory) -> SourceData:
    folder = tmp_path_factory.mktemp("wanted") / "parquet"
    return read_source(all_forms.variant(folder, *xenium_forms.PARQUET))


def test_the_parquet_form_is_what_was_planted(all_forms, wanted) -> None:
    tissue, moved = all_forms.tissue, wanted.transcripts
    assert wanted.cells.cell_ids.tolist() == tissue.ids.tolist()
    assert np.array_equal(wanted.cells.counts.toarray(), tissue.counts[:, : len(tissue.genes)])
    assert np.array_equal(moved.cell, tissue.tx_cell)
    assert np.array_equal(moved.overlaps_nucleus, tissue.in_nucleus)
    assert wanted.cells.gene_ids[1] == "ENSG00000000001"
    # The last cell has two nuclei, one of them moved by a micrometre.
    last = tissue.n_cells - 1
    assert wanted.nuclei.cell.tolist() == [*range(tissue.n_cells), last]
    rings = np.array(wanted.nuclei.outlines.xy_um).reshape(-1, 5, 2)
    assert np.array_equal(rings[-1], rings[-2] + 1)
    assert rings[0, 0].tolist() == (tissue.xy[0] - 2).tolist()


CHOICES = {
    "csv": ("cells.csv.gz", "transcripts.csv.gz", "cell_boundaries.csv.gz",
            "nucleus_boundaries.csv.gz", "cell_feature_matrix.h5"),
    "csv and MEX": ("cells.csv.gz", "transcripts.csv.gz", "cell_boundaries.csv.gz",
                    "nucleus_boundaries.csv.gz", "cell_feature_matrix"),
    "zarr": ("cells.zarr.zip", "transcripts.zarr.zip", "cell_feature_matrix.zarr.zip"),
    "zarr cells": ("cells.zarr.zip", "transcripts.parquet", "cell_feature_matrix.h5"),
    "everything": ("cells.parquet", "cells.csv.gz", "cells.zarr.zip", "transcripts.parquet",
                   "transcripts.csv.gz", "transcripts.zarr.zip", "cell_boundaries.parquet",
                   "cell_boundaries.csv.gz", "nucleus_boundaries.parquet",
                   "cell_feature_matrix.h5", "cell_feature_matrix",
                   "cell_feature_matrix.zarr.zip"),
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_every_form_gives_the_same_arrays(all_forms, wanted, tmp_path, choice) -> None:
    found = read_source(all_forms.variant(tmp_path / "source", *CHOICES[choice]))
    assert_same(found, wanted)
    told = [text for text in found.missing if text not in wanted.missing]
    assert len(told) == ("zarr.zip: names no cells" in " ".join(told))
    assert bool(told) == (choice == "zarr")


def test_unpacked_csv_is_read_too(all_forms, xenium_forms, wanted, tmp_path) -> None:
    import gzip

    folder = all_forms.variant(tmp_path / "source", "cell_feature_matrix.h5")
    for name in xenium_forms.CSV:
        text = gzip.decompress((all_forms.folder / name).read_bytes())
        (folder / name.removesuffix(".gz")).write_bytes(text)
    assert_same(read_source(folder), wanted)


def respell(folder, spelling) -> None:
    """Write the ids of all tables and of the matrix in another way."""
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        ids = [spelling(text) for text in table.column("cell_id").to_pylist()]
        place = table.schema.get_field_index("cell_id")
        pq.write_table(table.set_column(place, "cell_id", pa.array(ids)), path)


@pytest.mark.parametrize("version", ["bytes", "integers"])
def test_ids_of_the_first_versions(all_forms, xenium_forms, wanted, tmp_path, version) -> None:
    folder = all_forms.variant(tmp_path / "source", *xenium_forms.PARQUET)
    number = {name: i + 1 for i, name in enumerate(all_forms.tissue.ids)} | {"UNASSIGNED": -1}
    respell(folder, str.encode if version == "bytes" else number.__getitem__)
    names = wanted.cells.cell_ids.tolist()
    if version == "integers":
        names = [str(number[name]) for name in names]
        with h5py.File(folder / "cell_feature_matrix.h5", "a") as file:
            del file["matrix/barcodes"]
            file["matrix/barcodes"] = np.array(names, "S")
    found = read_source(folder)
    assert found.cells.cell_ids.tolist() == names
    assert np.array_equal(found.transcripts.cell, wanted.transcripts.cell)
    assert found.transcripts.n_unlisted_cell == 0
    assert ring_texts(found.polygons) == ring_texts(wanted.polygons)


IMAGES = {
    "1": ["morphology_focus.ome.tif"],
    "1 with projection": ["morphology_mip.ome.tif"],
    "2": ["morphology_focus/morphology_focus_0000.ome.tif"],
    "3": [f"morphology_focus/morphology_focus_{i:04d}.ome.tif" for i in range(4)],
    "4": ["morphology_focus/ch0000_dapi.ome.tif", "morphology_focus/ch0001_18s.ome.tif"],
}


@pytest.mark.parametrize("version", IMAGES)
def test_morphology_under_the_names_of_each_version(
    all_forms, xenium_forms, tmp_path, version
) -> None:
    folder = all_forms.variant(tmp_path / "source", *xenium_forms.PARQUET)
    (folder / "morphology_focus").mkdir()
    # The z-stack is there in every version, and never the first choice.
    for name in (*IMAGES[version], "morphology.ome.tif"):
        tifffile.imwrite(folder / name, PIXELS, ome=True)
    (image,) = read_source(folder).images
    assert [str(path.relative_to(folder.resolve())) for path in image.paths] == IMAGES[version]
    assert image.um_from_px[0, 0] == xenium_forms.PIXEL_UM


def test_keypoints_place_the_he(all_forms, xenium_forms, bundles, tmp_path) -> None:
    folder = all_forms.variant(tmp_path / "source", *xenium_forms.PARQUET)
    tifffile.imwrite(folder / "morphology_focus.ome.tif", PIXELS, ome=True)
    bundles.write_he(folder / "x_he_image.ome.tif", size=64)
    rows = [(10, 20, 0, 0), (30, 20, 10, 0), (10, 60, 0, 20), (30, 60, 10, 20)]
    text = "fixedX,fixedY,alignmentX,alignmentY\n" + "".join(
        f"{a},{b},{c},{d}\n" for a, b, c, d in rows
    )
    (folder / "x_he_image_keypoints.csv").write_text(text)
    he = read_source(folder).images[1]
    assert he.um_from_px @ [1, 1, 1] == pytest.approx([6, 11, 1])
    assert he.alignment_rms_um == pytest.approx(0)
    (folder / "x_he_image_keypoints.csv").write_text(text + "500,900,5,10\n")
    sample = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="x")
    store = SlideStore(tmp_path / "home")
    report = ingest(folder, store, name="x", sample=sample, qc=QcThresholds())
    assert any("keypoints disagree by" in sentence for sentence in report.missing)
    stain, he = store.open("x").meta.images
    assert he.alignment_rms_um > 5
    assert stain.alignment_rms_um is None


def test_gene_ids_come_from_the_matrix_first(all_forms, xenium_forms, tmp_path) -> None:
    folder = all_forms.variant(tmp_path / "source", *xenium_forms.PARQUET)
    (folder / "gene_panel.json").unlink()
    assert read_source(folder).cells.gene_ids is None
    with h5py.File(folder / "cell_feature_matrix.h5", "a") as file:
        ids = [f"ENSMUSG{i}" for i in range(len(file["matrix/features/name"]))]
        del file["matrix/features/id"]
        file["matrix/features/id"] = np.array(ids, "S")
    assert read_source(folder).cells.gene_ids == tuple(ids[:20])


def test_without_optional_parts(all_forms, xenium_forms, tmp_path) -> None:
    needed = ("cells.csv.gz", "transcripts.csv.gz", "cell_feature_matrix")
    data = read_source(all_forms.variant(tmp_path / "source", *needed, beside=()))
    assert (data.polygons, data.nuclei, data.images) == (None, None, ())
    for part in ("experiment.xenium", "gene_panel.json", "cell_boundaries", "nucleus_boundaries"):
        assert sum(part in sentence for sentence in data.missing) == 1, part


def test_zarr_transcripts_need_masks_and_pixel_size(all_forms, tmp_path) -> None:
    alone = all_forms.variant(
        tmp_path / "alone", "cells.parquet", "transcripts.zarr.zip", "cell_feature_matrix.h5"
    )
    with pytest.raises(SpatialFormerError, match=r"cells\.zarr\.zip with its masks is needed"):
        read_source(alone)
    sizeless = all_forms.variant(
        tmp_path / "sizeless", "cells.zarr.zip", "transcripts.zarr.zip", "cell_feature_matrix.h5"
    )
    (sizeless / "experiment.xenium").write_text(json.dumps({}))
    with pytest.raises(SpatialFormerError, match=r"Copy transcripts\.parquet or"):
        read_source(sizeless)


@pytest.mark.parametrize(
    ("numbers", "name"), [((1, 1), "aaaaaaab-1"), ((0xFFFFFFFF, 2), "pppppppp-2"), (7, "7")]
)
def test_cell_ids_are_spelled_as_in_the_tables(numbers, name) -> None:
    assert xenium_zarr.cell_names(np.array([numbers], np.uint32)).tolist() == [name]


def test_parts_that_a_slide_cannot_do_without(shared_data, tmp_path) -> None:
    """A real sample of transcripts and outlines alone has neither cells nor counts."""
    for sample in ("sample1", "sample2"):
        with pytest.raises(SpatialFormerError) as error:
            read_source(shared_data / "xenium_toy_mouse_brain" / sample)
        assert "lacks cells.parquet (or cells.csv.gz" in str(error.value)
        assert "cell_feature_matrix.h5 (or" in str(error.value)
        assert "transcripts" not in error.value.message


def test_real_bundle_is_the_same_from_csv(shared_data, tmp_path) -> None:
    import shutil

    source = shared_data / "xenium_toy_bundle"
    whole = read_source(source)
    folder = tmp_path / "csv"
    folder.mkdir()
    shutil.copyfile(source / "cell_feature_matrix.h5", folder / "cell_feature_matrix.h5")
    for path in source.glob("*.csv.gz"):
        shutil.copyfile(path, folder / path.name)
    found = read_source(folder)
    # The instrument writes fewer digits into its text.
    assert np.abs(found.cells.xy_um - whole.cells.xy_um).max() < 1e-9
    assert np.abs(found.cells.area_um2 - whole.cells.area_um2).max() < 1e-4
    assert_same(replace(found, cells=whole.cells), whole)
    assert (found.cells.counts != whole.cells.counts).nnz == 0
    assert whole.cells.gene_ids[0].startswith("ENSG")
    assert len(whole.nuclei.cell) == len(np.unique(whole.nuclei.cell))
