"""Orders and densities of transcripts against brute force."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Nuclei, Polygons, Transcripts
from spatialformer_core.slides import SlideStore, ingest, kernels, molecules, rebuild, zarr_points
from spatialformer_core.slides.index import TileGrid
from spatialformer_core.slides.zarr_store import write_zarr

SAMPLE = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
QC = QcThresholds(min_qv=20, min_transcripts=40, min_genes=10)
N_GENES, N_CELLS = 7, 30


def transcripts(n: int = 2000, seed: int = 0) -> Transcripts:
    """Transcripts of seven genes and two controls over 900 x 600 um."""
    rng = np.random.default_rng(seed)
    xyz = (rng.uniform(0, 1, (n, 3)) * (900, 600, 10)).astype(np.float32)
    gene_of_feature = np.array([3, -1, 0, 1, 6, 2, -1, 4, 5], np.int32)
    return Transcripts(
        xyz,
        rng.integers(0, 9, n).astype(np.int32),
        rng.integers(-1, N_CELLS, n).astype(np.int32),
        rng.choice([10, 30], n).astype(np.float32),
        tuple("abcdefghi"),
        gene_of_feature,
        overlaps_nucleus=rng.random(n) < 0.5,
    )


@pytest.fixture
def written(tmp_path, monkeypatch):
    """An index whose pieces are so small that every boundary is crossed."""
    monkeypatch.setattr(molecules, "_CHUNK", 37)
    found = transcripts()
    kept = molecules.Kept.of(found, found.qv >= 20)
    grid = TileGrid.over((0.0, 0.0, 900.0, 600.0))
    molecules.write_by_tile(tmp_path, grid, kept, N_GENES)
    molecules.write_by_cell(tmp_path, kept, N_CELLS)
    return tmp_path, grid, found, kept


@pytest.mark.parametrize("n", [0, 1, 500])
def test_counting_sorts_are_stable_sorts(n: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.integers(-1, 9, n).astype(np.int32)
    second = rng.integers(0, 5, n).astype(np.int32)
    indptr, order = kernels.order_by(first, 9)
    kept = np.flatnonzero(first >= 0)
    assert order.tolist() == kept[np.argsort(first[kept], kind="stable")].tolist()
    assert np.diff(indptr).tolist() == [np.sum(first == k) for k in range(9)]
    _, both = kernels.reorder_by(order, second, 5)
    assert both.tolist() == kept[np.lexsort((first[kept], second[kept]))].tolist()
    table = kernels.tally(second, first, second > 1, 5)
    for cell, good in ((0, 0), (1, 0), (0, 1), (1, 1)):
        member = ((first >= 0) == cell) & ((second > 1) == good)
        assert table[:, good, cell].tolist() == np.bincount(second[member], minlength=5).tolist()


def test_by_cell(written) -> None:
    folder, _, found, kept = written
    names = ("cell_indptr", "xyz", "gene", "qv", "nucleus")
    indptr, xyz, gene, qv, over = (np.load(folder / f"tx_{name}.npy") for name in names)
    for cell in range(N_CELLS):
        expected = np.flatnonzero((found.cell == cell) & (kept.gene >= 0))
        rows = slice(indptr[cell], indptr[cell + 1])
        assert np.array_equal(xyz[rows], found.xyz_um[expected])
        assert gene[rows].tolist() == kept.gene[expected].tolist()
        assert np.array_equal(qv[rows], found.qv[expected])
        assert np.array_equal(over[rows], found.overlaps_nucleus[expected])
    assert kept.gene[found.qv < 20].max() == -1


@pytest.mark.parametrize("window", [None, (100, 90, 420, 333), (0, 0, 249, 249), (5e3, 0, 6e3, 9)])
def test_genes_are_read_without_the_others(written, window) -> None:
    folder, grid, found, kept = written
    genes = [4, 0, 6]
    reader = molecules.GeneReader(folder, grid)
    xy, which = reader.positions(genes, window)
    assert reader.count(genes) == np.isin(kept.gene, genes).sum()
    # Whole tiles are counted, so that nothing has to be read.
    assert len(xy) <= reader.count(genes, window) <= reader.count(genes)
    for position, gene in enumerate(genes):
        expected = found.xyz_um[kept.gene == gene, :2]
        if window is not None:
            x0, y0, x1, y1 = window
            inside = (expected >= (x0, y0)).all(1) & (expected <= (x1, y1)).all(1)
            expected = expected[inside]
        mine = xy[which == position]
        assert len(mine) == len(expected)
        near = np.abs(mine[:, None] - expected[None]).max(axis=2).min(axis=1, initial=9)
        assert (near < grid.quantum_um).all()
    assert (np.diff(which) >= 0).all()


def test_densities_count_every_shown_transcript(written) -> None:
    folder, grid, found, kept = written
    shown = found.xyz_um[kept.gene >= 0, :2]
    for level, width in enumerate(molecules.bin_widths_um(grid)):
        counts = np.load(folder / f"density_transcripts_{level}.npy")
        edges = [np.arange(n + 1) * width for n in counts.shape]
        expected = np.histogram2d(shown[:, 1], shown[:, 0], bins=edges)[0]
        assert counts.sum() == len(shown)
        # A position within a rounding step of an edge may fall on either side.
        assert np.abs(counts - expected).sum() <= 2
    one = molecules.GeneReader(folder, grid).density([2], 0)
    assert one.sum() == (kept.gene == 2).sum()
    every = sum(molecules.GeneReader(folder, grid).density([g], 1) for g in range(N_GENES))
    assert np.array_equal(every, np.load(folder / "density_transcripts_1.npy"))


def test_pieces_do_not_matter(written, tmp_path, monkeypatch) -> None:
    folder, grid, _, kept = written
    monkeypatch.setattr(molecules, "_CHUNK", 1 << 20)
    whole = tmp_path / "whole"
    whole.mkdir()
    molecules.write_by_tile(whole, grid, kept, N_GENES)
    molecules.write_by_cell(whole, kept, N_CELLS)
    names = [path.name for path in whole.iterdir()]
    assert len(names) > 10
    assert all(files.sha256_file(folder / n) == files.sha256_file(whole / n) for n in names)


def test_bins_of_enormous_slides_are_wider() -> None:
    assert molecules.bins_per_tile(TileGrid(250, 0, 0, 100, 100)) == 25
    assert molecules.bins_per_tile(TileGrid(250, 0, 0, 600, 600)) == 5
    assert molecules.bins_per_tile(TileGrid(250, 0, 0, 1000, 1000)) == 1
    widths = molecules.bin_widths_um(TileGrid(250, 0, 0, 3, 5))
    assert widths == (10, 20, 40)
    levels = molecules.pyramid(np.ones((125, 75), np.uint32))
    assert [level.shape for level in levels] == [(125, 75), (63, 38), (32, 19)]
    assert {int(level.sum()) for level in levels} == {125 * 75}


@pytest.fixture(scope="module")
def slide_store(bundles, tmp_path_factory):
    root = tmp_path_factory.mktemp("rebuilt")
    store = SlideStore(root / "home")
    source = bundles.write_xenium(root / "run", bundles.Tissue())
    (source / "labels.csv").write_text("cell_id,group\ncell-0,B\ncell-3,A\n")
    ingest(source, store, name="run", sample=SAMPLE, qc=QC)
    return store, store.open("run")


def test_slide_reads_genes_and_densities(slide_store) -> None:
    _, slide = slide_store
    xy, which = slide.gene_transcripts(["GENE03", "GENE11"])
    tiles = [(ix, iy) for iy in range(slide.grid.ny) for ix in range(slide.grid.nx)]
    by_tile = [slide.tile_transcripts(*tile) for tile in tiles]
    for position, gene in enumerate((3, 11)):
        expected = np.concatenate([found[column == gene] for found, column in by_tile])
        assert np.array_equal(xy[which == position], expected)
    assert slide.density("cells").sum() == slide.meta.n_cells
    assert slide.gene_density(["GENE03"]).sum() == (which == 0).sum()
    assert slide.gene_density(["GENE03"], 1).shape == slide.density(level=1).shape
    with pytest.raises(SpatialFormerError, match="not in the panel"):
        slide.gene_transcripts(["nothing"])
    with pytest.raises(SpatialFormerError, match="no density level"):
        slide.density(level=99)


def test_index_is_rebuilt_equal(slide_store) -> None:
    store, slide = slide_store
    folder = slide.folder
    before = {p.name: files.sha256_file(p) for p in (folder / "index").rglob("*") if p.is_file()}
    (folder / "index" / "tx_xyz.npy").write_bytes(b"x")
    (folder / "index" / "genes.json").unlink()
    (folder / "slide.zarr" / "left-over").write_text("x")
    found = store.differences("run")
    assert found == files.Differences(
        ("index/genes.json",), ("index/tx_xyz.npy",), ("slide.zarr/left-over",)
    )
    rebuild(store, "run")
    assert store.verify("run") == []
    after = {p.name: files.sha256_file(p) for p in (folder / "index").rglob("*") if p.is_file()}
    assert after == before
    assert {path.name for path in store.root.iterdir()} == {"run"}
    (folder / "meta.json").write_text("{}")
    with pytest.raises(SpatialFormerError, match=r"Not only the index is damaged: meta.json"):
        rebuild(store, "run")


def test_older_format_opens_and_is_rebuilt(bundles, tmp_path) -> None:
    store = SlideStore(tmp_path / "home")
    source = bundles.write_xenium(tmp_path / "run", bundles.Tissue(n_cells=9))
    ingest(source, store, name="old", sample=SAMPLE, qc=QC)
    folder = store.path("old")
    with files.atomic_directory(folder, replace=True) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        (new / files.MANIFEST).unlink()
        values = files.read_json(new / "meta.json") | {"format_version": 1}
        values = {k: v for k, v in values.items() if k not in ("has_nuclei", "has_gene_ids")}
        files.write_json(new / "meta.json", values)
        for pattern in ("density_*", "gene_runs_*"):
            for path in (new / "index").glob(pattern):
                path.unlink()
    old = store.open("old")
    assert old.tile_transcripts(0, 0)[0].shape[1] == 2
    assert store.verify("old") == []
    for ask in (old.density, lambda: old.gene_transcripts(["GENE03"])):
        with pytest.raises(SpatialFormerError, match="slides rebuild old"):
            ask()
    assert rebuild(store, "old").format_version == 2
    assert store.open("old").density().sum() > 0


def test_points_are_read_back_over_many_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zarr_points, "_ROWS_PER_GROUP", 64)
    found = transcripts(1000)
    ids = np.array([f"c{i}" for i in range(N_CELLS)])
    zarr_points.points_folder(tmp_path).mkdir(parents=True)
    zarr_points.write_rows(tmp_path, found, ids)
    assert len(list(zarr_points.points_folder(tmp_path).iterdir())) == 4
    genes = ("c", "d", "f", "a", "h", "i", "e")
    back = zarr_points.read_rows(tmp_path, ids, genes)
    for name in ("xyz_um", "feature", "cell", "qv", "gene_of_feature", "overlaps_nucleus"):
        assert np.array_equal(getattr(back, name), getattr(found, name)), name
    assert back.feature_names == found.feature_names


@pytest.fixture
def with_nuclei(bundles, tmp_path, monkeypatch):
    """A source with three nuclei of two cells and with stable ids of its genes."""
    from spatialformer_core import io

    source = bundles.write_xenium(tmp_path / "run", bundles.Tissue(n_cells=9))
    read = io.read_source
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, -1]], np.float32)
    cell = np.array([0, 2, 2], np.int32)

    def more(*args, **kwargs):
        data = read(*args, **kwargs)
        xy = (data.cells.xy_um[cell][:, None] + corner).reshape(-1, 2).astype(np.float32)
        nuclei = Nuclei(cell, Polygons(np.arange(4) * 4, xy))
        ids = tuple(f"ENSG{i}" for i in range(len(data.cells.genes)))
        return replace(data, nuclei=nuclei, cells=replace(data.cells, gene_ids=ids))

    monkeypatch.setattr("spatialformer_core.io.read_source", more)
    return source


@pytest.mark.parametrize("in_zarr", [True, False], ids=["in the store", "in the index alone"])
def test_nuclei_and_gene_ids_survive(with_nuclei, tmp_path, monkeypatch, in_zarr) -> None:
    if not in_zarr:  # as early slides were written

        def without(path, meta, slide, transcripts):
            write_zarr(path, meta, replace(slide, nuclei=None, gene_ids=None), transcripts)

        # The package's name of that module is the function.
        module = sys.modules["spatialformer_core.slides.ingest"]
        monkeypatch.setattr(module, "write_zarr", without)
    store = SlideStore(tmp_path / "home")
    ingest(with_nuclei, store, name="n", sample=SAMPLE, qc=QC)
    first = store.open("n").nuclei()
    assert first.cell.tolist() == [0, 2, 2]
    before = store.open("n").meta
    rebuild(store, "n")
    again = store.open("n")
    assert again.meta == before
    assert np.array_equal(again.nuclei().outlines.xy_um, first.outlines.xy_um)
    assert np.array_equal(again.nuclei().outlines.indptr, first.outlines.indptr)
    assert again.nuclei().cell.tolist() == [0, 2, 2]
    assert again.gene_ids[3] == "ENSG3"
    # Damaged, they come back from the store; where it has none, the slide says that they are gone.
    for name in ("nuclei_xy.npy", "gene_ids.json"):
        (store.path("n") / "index" / name).write_bytes(b"x")
    rebuild(store, "n")
    again = store.open("n")
    lost = set(again.meta.missing) - set(before.missing)
    assert (again.nuclei() is not None, again.gene_ids is not None) == (in_zarr, in_zarr)
    assert len(lost) == (0 if in_zarr else 2)
    assert all("lost when the index was written anew" in sentence for sentence in lost)
