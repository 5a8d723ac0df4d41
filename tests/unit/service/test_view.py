"""Bytes for the viewer, decoded as its JavaScript decodes them."""

from __future__ import annotations

import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import palette, view
from spatialformer_core.slides import SlideStore, ingest

GENES = ["AAA", "BBB", "CCC"]
N = 40
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
QC = QcThresholds(min_transcripts=4, min_genes=2)
SHAPE_PX = (600, 700)


def positions():
    """Forty cells on a diagonal band of 900 x 420 um: four by two tiles of 250 um."""
    rng = np.random.default_rng(3)
    return np.stack([rng.uniform(10, 900, N), rng.uniform(10, 420, N)], axis=1)


def counts():
    rng = np.random.default_rng(4)
    return rng.poisson((4, 1, 0.4), (N, 3)).astype(np.int32)


def molecules(xy):
    cell, gene = np.nonzero(counts())
    times = counts()[cell, gene]
    cell, gene = np.repeat(cell, times), np.repeat(gene, times)
    return cell, gene, xy[cell] + np.random.default_rng(5).uniform(-3, 3, (len(cell), 2))


def write_source(folder):
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tifffile

    folder.mkdir()
    xy = positions()
    ids = [f"c{i}" for i in range(N)]
    types = pd.Categorical(["T", "B", None, "T"] * (N // 4))
    table = anndata.AnnData(
        counts(),
        obs=pd.DataFrame({"cell_type": types}, index=ids),
        var=pd.DataFrame(index=GENES),
    )
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene, at = molecules(xy)
    columns = {
        "cell_id": [ids[i] for i in cell],
        "feature_name": [GENES[i] for i in gene],
        "x_location": at[:, 0],
        "y_location": at[:, 1],
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    square = np.array([[-4, -4], [4, -4], [4, 4], [-4, 4], [-4, -4]])
    outlined = [i for i in range(N) if i != 7]
    ring = np.concatenate([xy[i] + square for i in outlined])
    outlines = {
        "cell_id": np.repeat([ids[i] for i in outlined], len(square)),
        "vertex_x": ring[:, 0],
        "vertex_y": ring[:, 1],
    }
    pq.write_table(pa.table(outlines), folder / "cell_boundaries.parquet")
    stain = np.zeros((2, *SHAPE_PX), np.uint16)
    stain[0] = 50
    stain[0, :, 350:] = 4000  # the right half is bright
    stain[1] = 100
    stain[1, 300:] = 900  # the lower half is bright
    tifffile.imwrite(
        folder / "stain.ome.tif",
        stain,
        ome=True,
        metadata={
            "axes": "CYX",
            "PhysicalSizeX": 1.5,
            "PhysicalSizeY": 1.5,
            "Channel": {"Name": ["DAPI", "CD45"]},
        },
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    write_source(folder / "source")
    ingest(folder / "source", SlideStore(folder), name="Small", sample=SAMPLE, qc=QC)
    return folder


@pytest.fixture
def shown(home, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    return view.open_view(home, "small")


def decode_codes(body):
    length = int(np.frombuffer(body, "<u4", 1)[0])
    header = json.loads(body[4 : 4 + length])
    return header, np.frombuffer(body, "<u2" if header.get("wide") else "u1", offset=4 + length)


def decode_outlines(body):
    n, n_vertices = (int(v) for v in np.frombuffer(body, "<u4", 2))
    cells = np.frombuffer(body, "<u4", n, 8)
    start = np.frombuffer(body, "<u4", n + 1, 8 + 4 * n)
    xy = np.frombuffer(body, "<f4", 2 * n_vertices, 12 + 8 * n).reshape(-1, 2)
    return cells, start, xy


def decode_jpeg(body):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(body)).convert("L")).astype(int)


def test_points_are_rounded_to_a_65535th_of_the_extent(shown):
    body = shown.points()
    n = int(np.frombuffer(body, "<u4", 1)[0])
    x0, y0, step_x, step_y = np.frombuffer(body, "<f8", 4, 8)
    x = x0 + step_x * np.frombuffer(body, "<u2", n, 40)
    y = y0 + step_y * np.frombuffer(body, "<u2", n, 40 + 2 * n)
    bits = np.unpackbits(np.frombuffer(body, "u1", offset=40 + 4 * n), bitorder="little")[:n]
    assert n == N
    # Half a step, and the rounding of the index itself, which is stored as float32.
    np.testing.assert_allclose(np.stack([x, y], 1), positions(), atol=900 / 65_535 / 2 + 1e-4)
    expected = (counts().sum(1) >= QC.min_transcripts) & ((counts() > 0).sum(1) >= QC.min_genes)
    np.testing.assert_array_equal(bits.astype(bool), expected)
    assert 0 < expected.sum() < N  # else the bits were not tested


def test_groups_keep_their_codes_and_nobody_is_put_into_one(shown):
    header, codes = decode_codes(shown.group_codes("cell_type"))
    names = [header["categories"][code] if code < 255 else None for code in codes]
    assert names == ["T", "B", None, "T"] * (N // 4)
    by_name = dict(zip(header["categories"], header["cells"], strict=True))
    assert by_name == {"T": 20, "B": 10}
    assert header["n_unassigned"] == 10
    assert header["colours"] == palette.group_colours(2)


def test_more_than_255_groups_use_two_bytes():
    codes = np.arange(-1, 300)
    groups = SimpleNamespace(categories=tuple(map(str, range(300))), codes=codes)
    slide = SimpleNamespace(group=lambda _key: groups, passes_qc=np.ones(301, bool))
    header, sent = decode_codes(view.SlideView(slide).group_codes("many"))
    assert header["wide"]
    assert sent.tolist() == [65_535, *range(300)]


def test_gene_codes_are_the_counts(shown):
    header, codes = decode_codes(shown.gene_codes("BBB"))
    np.testing.assert_array_equal(codes, counts()[:, 1])
    assert header["scale"] == 1
    assert header["max"] == counts()[:, 1].max()
    assert header["n_positive"] == (counts()[:, 1] > 0).sum()


def test_large_counts_are_scaled_and_one_is_never_none():
    column = np.array([0, 1, 510, 1020], np.float32)
    slide = SimpleNamespace(gene_column=lambda _gene: column)
    header, codes = decode_codes(view.SlideView(slide).gene_codes("X"))
    assert header["scale"] == 4
    assert codes.tolist() == [0, 1, 128, 255]


def test_a_gene_that_nobody_expresses_has_a_legend():
    slide = SimpleNamespace(gene_column=lambda _gene: np.zeros(5, np.float32))
    header, codes = decode_codes(view.SlideView(slide).gene_codes("X"))
    assert codes.tolist() == [0] * 5
    assert header["high"] == 1
    assert header["n_positive"] == 0


def test_unknown_gene_or_grouping_is_an_error(shown):
    with pytest.raises(SpatialFormerError, match="NOPE"):
        shown.gene_codes("NOPE")
    with pytest.raises(SpatialFormerError, match="nope"):
        shown.group_codes("nope")


def test_each_outline_is_in_exactly_one_tile(shown):
    info = shown.info()
    seen = {}
    for y in range(info["tiles"][1]):
        for x in range(info["tiles"][0]):
            cells, start, xy = decode_outlines(shown.polygon_tile(x, y))
            for i, cell in enumerate(cells):
                assert int(cell) not in seen
                seen[int(cell)] = xy[start[i] : start[i + 1]] + info["tile_origin_um"]
                # The centre decides on the tile, however far the outline reaches.
                centre = positions()[cell] - info["tile_origin_um"]
                assert tuple(np.floor(centre / info["tile_um"])) == (x, y)
    assert sorted(seen) == [i for i in range(N) if i != 7]
    for cell, ring in seen.items():
        assert ring.min(0) == pytest.approx(positions()[cell] - 4, abs=1e-3)
        assert ring.max(0) == pytest.approx(positions()[cell] + 4, abs=1e-3)
    assert len(info["tiles"]) == 2
    assert info["tiles"][0] * info["tiles"][1] > 2


@pytest.mark.parametrize("tile", [(-1, 0), (0, -1), (99, 0), (0, 99)])
def test_tiles_outside_the_slide_do_not_exist(shown, tile):
    assert shown.polygon_tile(*tile) is None
    assert shown.transcript_tile(*tile, ["AAA"]) is None


def test_molecules_of_the_chosen_genes_only(shown):
    info = shown.info()
    found = {"CCC": [], "AAA": []}
    for y in range(info["tiles"][1]):
        for x in range(info["tiles"][0]):
            body = shown.transcript_tile(x, y, list(found))
            n = int(np.frombuffer(body, "<u4", 1)[0])
            xy = np.frombuffer(body, "<f4", 2 * n, 4).reshape(-1, 2) + info["tile_origin_um"]
            which = np.frombuffer(body, "u1", n, 4 + 8 * n)
            for position, gene in enumerate(found):
                found[gene].append(xy[which == position])
    _, gene, at = molecules(positions())
    for name, parts in found.items():
        sent, expected = np.concatenate(parts), at[gene == GENES.index(name)]
        assert len(sent) == len(expected)
        np.testing.assert_allclose(
            sent[np.argsort(sent[:, 0])], expected[np.argsort(expected[:, 0])], atol=0.01
        )


def test_molecules_of_a_window_are_those_of_its_tiles(shown):
    info, genes = shown.info(), ["CCC", "AAA"]
    tiles = [(x, y) for y in range(info["tiles"][1]) for x in range(info["tiles"][0])]
    parts = [shown.transcript_tile(*tile, genes) for tile in tiles]
    n_whole = sum(int(np.frombuffer(part, "<u4", 1)[0]) for part in parts)
    body = shown.molecules(genes)
    n = int(np.frombuffer(body, "<u4", 1)[0])
    assert n == n_whole
    assert len(body) == 4 + 9 * n
    x0, y0, x1, y1 = info["bounds_um"]
    window = (x0, y0, (x0 + x1) / 2, y1)
    half = shown.molecules(genes, window)
    n_half = int(np.frombuffer(half, "<u4", 1)[0])
    xy = np.frombuffer(body, "<f4", 2 * n, 4).reshape(-1, 2) + info["tile_origin_um"]
    assert 0 < n_half == (xy[:, 0] <= window[2]).sum() < n


def test_density_counts_all_molecules_or_those_of_a_gene(shown):
    for level, width in enumerate(shown.info()["density_bins_um"]):
        for genes, expected in ((), counts().sum()), (["BBB"], counts()[:, 1].sum()):
            body = shown.density(level, genes)
            columns, rows = (int(v) for v in np.frombuffer(body, "<u4", 2))
            assert np.frombuffer(body, "<f8", 1, 8)[0] == width
            bins = np.frombuffer(body, "<u4", rows * columns, 16)
            assert len(body) == 16 + 4 * rows * columns
            assert bins.sum() == expected
    with pytest.raises(SpatialFormerError):
        shown.density(99)


def test_molecules_of_too_many_or_unknown_genes_are_refused(shown):
    for genes in ([], ["AAA"] * (view.MAX_GENES + 1), ["NOPE"]):
        with pytest.raises(SpatialFormerError):
            shown.transcript_tile(0, 0, genes)
        with pytest.raises(SpatialFormerError):
            shown.molecules(genes)


def test_image_tiles_show_the_channel_and_end_with_the_image(shown):
    (image,) = shown.info()["images"]
    name = image["name"]
    side = image["tile_px"]
    assert (image["height"], image["width"]) == SHAPE_PX
    first = decode_jpeg(shown.image_tile(name, 0, 0, 0, 0))
    assert first.shape == (side, side)
    assert first[:, :340].max() < 12
    assert first[:, 360:].min() > 240
    corner = decode_jpeg(shown.image_tile(name, 0, 0, 1, 1))
    assert corner.shape == (SHAPE_PX[0] - side, SHAPE_PX[1] - side)
    other = decode_jpeg(shown.image_tile(name, 1, 0, 0, 0))
    assert other[:290].max() < 12
    assert other[310:].min() > 240
    half = decode_jpeg(shown.image_tile(name, 0, 1, 0, 0))
    assert half.shape == (300, 350)
    assert half[:, :170].max() < 12
    assert half[:, 180:].min() > 240


@pytest.mark.parametrize(
    "at", [(2, 0, 0, 0), (-1, 0, 0, 0), (0, 9, 0, 0), (0, -1, 0, 0), (0, 0, 2, 0), (0, 0, 0, -1)]
)
def test_image_tiles_outside_the_image_do_not_exist(shown, at):
    (image,) = shown.info()["images"]
    with pytest.raises(SpatialFormerError):
        shown.image_tile(image["name"], *at)


def test_unknown_image_is_an_error(shown):
    with pytest.raises(SpatialFormerError, match="nope"):
        shown.image_tile("nope", 0, 0, 0, 0)


def test_cell_says_what_it_is(shown):
    cell = shown.cell(0)
    row = counts()[0]
    assert cell["id"] == "c0"
    assert cell["transcripts"] == row.sum()
    assert cell["genes"] == (row > 0).sum()
    assert cell["groups"] == {"cell_type": "T"}
    assert cell["top_genes"][0] == [GENES[row.argmax()], row.max()]
    assert shown.cell(2)["groups"] == {}
    assert shown.cell(N) is None
    assert shown.cell(-1) is None


def test_an_unknown_slide_is_an_error(home):
    for slide_id in ("nobody", "../small", ""):
        with pytest.raises(SpatialFormerError):
            view.open_view(home, slide_id)


def test_a_slide_that_was_written_anew_is_opened_anew(shown, home):
    assert view.open_view(home, "small") is shown
    manifest = home / "slides" / "small" / "COMPLETE.json"
    before = manifest.stat()
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert view.open_view(home, "small") is not shown


def test_colours_differ_for_as_many_groups_as_there_are_colours():
    colours = palette.group_colours(36)
    assert len(set(colours)) == 36
    assert palette.group_colours(40)[36:] == colours[:4]
    assert palette.UNASSIGNED not in colours


def test_more_molecules_than_one_answer_holds_are_refused(shown, monkeypatch):
    genes = list(GENES[:2])
    n = int(np.frombuffer(shown.molecules(genes), "<u4", 1)[0])
    monkeypatch.setattr(view, "MAX_MOLECULES", n)
    assert shown.molecules(genes)
    monkeypatch.setattr(view, "MAX_MOLECULES", n - 1)
    with pytest.raises(view.TooMany, match="Zoom in"):
        shown.molecules(genes)
