"""A slide appears whole and right, or the store stays as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.spatial import cKDTree

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.slides import Roi, SlideStore, ingest

SAMPLE = SampleMetadata(
    donor="d1", block="b1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
QC = QcThresholds(min_qv=20, min_transcripts=40, min_genes=10)


def state(store: SlideStore) -> dict[str, str]:
    return {
        str(p.relative_to(store.root)): files.sha256_file(p)
        for p in sorted(store.root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def slides(bundles, tmp_path_factory):
    """A store with the same tissue as a table folder and as Xenium output with labels and H&E."""
    root = tmp_path_factory.mktemp("slides")
    tissue = bundles.Tissue()
    store = SlideStore(root / "home")
    table = bundles.write_table_folder(root / "table", tissue)
    bundles.write_stain(table / "morphology.ome.tif")
    reports = {"table": ingest(table, store, name="Table", sample=SAMPLE, qc=QC)}
    folder = bundles.write_xenium(root / "run", tissue, experiment={"simulated": True})
    rows = [f"{i},{bundles.TYPES[t]}" for i, t in zip(tissue.ids, tissue.types, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["cell_id,group", *rows[:-1], "nobody,T cell"]))
    bundles.write_stain(folder / "morphology_focus.ome.tif", pixel_um=None)
    bundles.write_he(folder / "s_he_image.ome.tif")
    (folder / "s_he_imagealignment.csv").write_text("0,-2,1300\n2,0,10\n0,0,1\n")
    reports["xenium"] = ingest(folder, store, name="Xenium run 1", sample=SAMPLE, qc=QC)
    return tissue, store, reports, root


def test_counts_and_qc_follow_the_matrix(slides) -> None:
    tissue, store, reports, _ = slides
    genes = tissue.counts[:, : len(tissue.genes)]
    passes = (genes.sum(1) >= 40) & ((genes > 0).sum(1) >= 10)
    for slide_id in ("table", "xenium-run-1"):
        slide = store.open(slide_id)
        assert np.array_equal(slide.counts.toarray(), genes)
        assert slide.counts.dtype == np.int32
        assert slide.genes == tuple(tissue.genes)
        assert slide.cell_ids.tolist() == tissue.ids.tolist()
        assert np.array_equal(slide.passes_qc, passes)
        assert np.array_equal(slide.gene_column("GENE07"), genes[:, 7])
        assert slide.meta.n_cells_kept == passes.sum()
        np.testing.assert_allclose(slide.xy_um, tissue.xy, atol=1e-4)
        np.testing.assert_allclose(slide.area_um2, tissue.area, rtol=1e-5)
    assert 0 < passes.sum() < len(passes)
    assert reports["table"].cells_in == 40


def test_transcripts_are_sorted_by_cell_and_filtered(slides) -> None:
    tissue, store, _, _ = slides
    found = store.open("xenium-run-1").transcripts_by_cell()
    keep = (tissue.tx_qv >= 20) & (tissue.tx_cell >= 0) & (tissue.tx_feature < len(tissue.genes))
    assert found.indptr[-1] == keep.sum()
    for cell in range(tissue.n_cells):
        rows = slice(found.indptr[cell], found.indptr[cell + 1])
        expected = np.flatnonzero(keep & (tissue.tx_cell == cell))
        assert found.gene[rows].tolist() == tissue.tx_feature[expected].tolist()
        np.testing.assert_allclose(found.xyz_um[rows], tissue.tx_xyz[expected], atol=1e-4)
        assert found.qv[rows].tolist() == tissue.tx_qv[expected].tolist()
    flat = store.open("table").transcripts_by_cell()
    assert flat.xyz_um.shape[1] == 2
    assert flat.qv is None


def test_report_accounts_for_every_transcript(slides) -> None:
    tissue, _, reports, _ = slides
    for report in reports.values():
        dropped = report.dropped
        reasons = ("control_transcripts", "unknown_feature_transcripts")
        reasons += ("low_quality_transcripts", "transcripts_outside_cells")
        total = report.transcripts_kept + sum(dropped[reason] for reason in reasons)
        assert total == report.transcripts_in == len(tissue.tx_cell)
    gene = tissue.tx_feature < len(tissue.genes)
    dropped = reports["xenium"].dropped
    assert dropped["control_transcripts"] == (~gene).sum()
    assert dropped["low_quality_transcripts"] == (gene & (tissue.tx_qv < 20)).sum()
    assert dropped["control_counts_in_matrix"] == tissue.counts[:, len(tissue.genes) :].sum()


def test_mismatch_is_what_differs(slides) -> None:
    tissue, _, reports, _ = slides
    assert reports["xenium"].mismatch["cells_equal"] == 1.0
    matrix = tissue.counts[:, : len(tissue.genes)].sum(1)
    every = tissue.count(0)[:, : len(tissue.genes)].sum(1)
    found = reports["table"].mismatch
    assert found["cells_equal"] == pytest.approx(np.mean(matrix == every))
    assert found["median_ratio"] == pytest.approx(np.median(every / matrix))


def test_groups_and_retention(slides, bundles) -> None:
    tissue, store, reports, _ = slides
    table, run = store.open("table"), store.open("xenium-run-1")
    assert table.meta.default_group == "celltype_marker"
    assert run.meta.default_group == "cell_type"
    codes = tissue.types.copy()
    codes[-1] = -1
    assert np.array_equal(run.group("cell_type").codes, codes)
    assert run.group("cell_type").categories == tuple(sorted(bundles.TYPES))
    assert any("1 labels name no cell" in sentence for sentence in run.meta.missing)
    kept = reports["table"].retention_per_type
    for code, name in enumerate(bundles.TYPES):
        member = tissue.types == code
        assert kept[name] == (member.sum(), (member & table.passes_qc).sum())
    assert reports["xenium"].retention_per_type["(no label)"][0] == 1


def test_simulated_flag_images_and_source_name(slides) -> None:
    _, store, _, root = slides
    run, table = store.open("xenium-run-1").meta, store.open("table").meta
    assert (run.simulated, table.simulated) == (True, False)
    assert run.source == "run"
    assert str(root) not in (store.path("table") / "meta.json").read_text()
    he = next(image for image in run.images if image.kind == "he")
    # A quarter turn at twice the size, then 0.5 um per morphology pixel.
    assert he.um_from_px == ((0, -1, 650), (1, 0, 5), (0, 0, 1))
    assert he.pixel_size_um == pytest.approx(1.0)
    stain = table.images[0]
    assert [channel.name for channel in stain.channels] == ["DAPI", "18S"]
    assert stain.um_from_px[0] == (0.5, 0, 0)


def test_tiles_hold_every_shown_transcript_and_cell(slides) -> None:
    tissue, store, _, _ = slides
    slide = store.open("xenium-run-1")
    shown = (tissue.tx_qv >= 20) & (tissue.tx_feature < len(tissue.genes))
    found, cells = [], []
    for iy in range(slide.grid.ny):
        for ix in range(slide.grid.nx):
            xy, gene = slide.tile_transcripts(ix, iy)
            assert np.all(np.diff(gene.astype(int)) >= 0)
            found += [(int(g), *p) for g, p in zip(gene, xy, strict=True)]
            cells += slide.tile_cells(ix, iy).tolist()
    # Genes a kilometre apart: the nearest neighbour then is the same molecule, to one step.
    apart = np.array([1e9, 1, 1])
    expected = np.c_[tissue.tx_feature[shown], tissue.tx_xyz[shown, :2]] * apart
    distance, match = cKDTree(expected).query(np.array(found) * apart)
    assert len(found) == shown.sum() == len(np.unique(match))
    assert distance.max() < slide.grid.quantum_um
    assert sorted(cells) == list(range(tissue.n_cells))
    with pytest.raises(SpatialFormerError, match="outside"):
        slide.tile_transcripts(99, 0)


def test_zarr_opens_with_spatialdata(slides) -> None:
    tissue, store, _, _ = slides
    import spatialdata

    slide = store.open("xenium-run-1")
    data = spatialdata.read_zarr(slide.zarr_path)
    table = data.tables["table"]
    assert np.array_equal(table.X.toarray(), slide.counts.toarray())
    np.testing.assert_allclose(table.obsm["spatial"], tissue.xy, atol=1e-4)
    assert table.obs["cell_type"].isna().sum() == 1
    assert table.obs["donor"].unique().tolist() == ["d1"]
    points = data.points["transcripts"].compute()
    assert len(points) == len(tissue.tx_cell)
    assert {"x", "y", "z", "feature_name", "cell_id", "qv"} <= set(points.columns)
    outlines = data.shapes["cell_boundaries"]
    assert outlines.index.tolist() == tissue.ids.tolist()
    np.testing.assert_allclose(outlines.geometry.area, 64, rtol=1e-3)


def test_another_quality_recounts_from_transcripts(slides) -> None:
    tissue, store, _, root = slides
    qc = QcThresholds(min_qv=35, min_transcripts=10, min_genes=3)
    ingest(root / "run", store, name="strict", sample=SAMPLE, qc=qc)
    slide = store.open("strict")
    assert slide.meta.counts_from == "transcripts"
    assert np.array_equal(slide.counts.toarray(), tissue.count(35)[:, : len(tissue.genes)])


def test_taken_name_is_refused_and_replacing_keeps_regions(slides) -> None:
    import shapely

    _, store, _, root = slides
    slide = store.open("table")
    slide.save_roi(Roi("r1", "core", "table", "core", shapely.box(100, 100, 300, 300)))
    before = state(store)
    with pytest.raises(SpatialFormerError, match="exists already"):
        ingest(root / "table", store, name="TABLE", sample=SAMPLE, qc=QC)
    assert state(store) == before
    ingest(root / "table", store, name="Table", sample=SAMPLE, qc=QC, replace=True)
    assert [roi.name for roi in store.open("table").rois()] == ["core"]
    assert store.verify("table") == []


@pytest.mark.parametrize("after", [1, 3, 5, 6])
def test_cancel_leaves_the_store_as_it_was(slides, after: int) -> None:
    _, store, _, root = slides
    before, calls = state(store), []

    def cancel() -> bool:
        calls.append(1)
        return len(calls) > after

    with pytest.raises(Cancelled):
        ingest(root / "table", store, name="new", sample=SAMPLE, qc=QC, cancel=cancel)
    assert state(store) == before
    assert not [p for p in store.root.iterdir() if "partial" in p.name]


def test_failure_while_writing_leaves_the_store_as_it_was(slides, monkeypatch) -> None:
    _, store, _, root = slides
    before = state(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spatialformer_core.slides.zarr_store._table", full)
    with pytest.raises(SpatialFormerError, match=r"disk is full: 'new' .*about .* needed.* free"):
        ingest(root / "table", store, name="new", sample=SAMPLE, qc=QC)
    assert state(store) == before


def test_too_little_space_is_found_before_writing(slides, monkeypatch) -> None:
    _, store, _, root = slides
    before = state(store)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(SpatialFormerError, match=r"needed, 0.0 kB written, 1.0 kB free"):
        ingest(root / "table", store, name="new", sample=SAMPLE, qc=QC)
    assert state(store) == before


def test_same_source_gives_the_same_index(slides) -> None:
    _, store, _, root = slides
    ingest(root / "table", store, name="again", sample=SAMPLE, qc=QC)
    one, two = (store.path(i) / "index" for i in ("table", "again"))
    assert files.read_json(one / "genes.json") == files.read_json(two / "genes.json")
    names = sorted(p.name for p in one.glob("*.npy"))
    assert names
    assert all(files.sha256_file(one / n) == files.sha256_file(two / n) for n in names)


def test_row_order_of_transcripts_does_not_matter(slides, bundles, tmp_path) -> None:
    tissue, store, _, _ = slides
    folder = bundles.write_xenium(tmp_path / "shuffled", tissue)
    table = pq.read_table(folder / "transcripts.parquet")
    order = np.random.default_rng(5).permutation(len(table))
    pq.write_table(table.take(order), folder / "transcripts.parquet", row_group_size=333)
    report = ingest(folder, store, name="shuffled", sample=SAMPLE, qc=QC)
    original = store.open("xenium-run-1").meta
    assert report.dropped == original.dropped
    assert report.transcripts_kept == original.n_transcripts
    one, two = (store.open(i).transcripts_by_cell() for i in ("xenium-run-1", "shuffled"))
    assert np.array_equal(one.indptr, two.indptr)
    for cell in (0, 7, 39):
        rows = slice(one.indptr[cell], one.indptr[cell + 1])
        left = np.c_[one.gene[rows], one.xyz_um[rows]].tolist()
        right = np.c_[two.gene[rows], two.xyz_um[rows]].tolist()
        assert sorted(left) == sorted(right)


def test_images_of_any_name_are_kept_apart(slides, bundles, tmp_path) -> None:
    tissue, store, _, _ = slides
    folder = bundles.write_table_folder(tmp_path / "named", tissue)
    for stem in ("my stain (1)", "my stain 1", "é"):
        bundles.write_stain(folder / f"{stem}.ome.tif", size=64)
    ingest(folder, store, name="named", sample=SAMPLE, qc=QC)
    slide = store.open("named")
    assert [image.name for image in slide.meta.images] == ["my-stain-1", "my-stain-1-2", "image"]
    assert all(slide.image_path(image.name).is_file() for image in slide.meta.images)


def test_importing_slides_is_light() -> None:
    code = (
        "import sys, spatialformer_core.slides;"
        "print([m for m in ('torch','spatialdata','scanpy','anndata','dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
