"""Regions joined, cut, put into sets, copied and compared; counted by hand on the tiny slide.

The slide: 6 rows of 10 cells, 10 um apart, the first at (5, 5); types A B C A B C ... in order.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import changes, region_contrast, roi_tools
from spatialformer_core.service.kinds import resolve
from spatialformer_core.service.settings import Limits
from spatialformer_core.slides import ingest, parse_rois, select_cells
from spatialformer_core.slides.roi_csv import to_explorer_csv

LIMITS = Limits()


def square(x0, y0, x1, y1):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return json.dumps({"type": "Polygon", "coordinates": [ring]})


@pytest.fixture
def slide(services):
    services.save_roi("tiny", square(0, 0, 40, 40), "left", "ann")
    services.save_roi("tiny", square(20, 0, 60, 40), "right", "ann")
    services.save_roi("tiny", square(80, 0, 100, 20), "far", "ann")
    return services.slide("tiny")


@pytest.fixture
def ids(slide):
    return {roi.name: roi.roi_id for roi in slide.rois()}


def cells(slide, roi):
    return int(select_cells(slide.xy_um, roi.polygon).sum())


@pytest.mark.parametrize(
    ("operation", "area_um2", "n_cells"),
    [("union", 60 * 40, 24), ("subtract", 20 * 40, 8), ("intersect", 20 * 40, 8)],
)
def test_two_regions_make_a_third(slide, ids, operation, area_um2, n_cells):
    chosen = [ids["left"], ids["right"]]
    roi = roi_tools.combine(slide, chosen, operation, name="new", limits=LIMITS, owner="ann")
    assert roi.area_um2 == pytest.approx(area_um2)
    assert cells(slide, roi) == n_cells
    assert {r.name for r in slide.rois()} == {"left", "right", "far", "new"}
    assert roi.owner == "ann"


def test_the_order_decides_what_is_subtracted(slide, ids):
    for first, other, x in (("left", "right", 0), ("right", "left", 40)):
        chosen = [ids[first], ids[other]]
        roi = roi_tools.combine(slide, chosen, "subtract", name=f"{first} only", limits=LIMITS)
        assert roi.polygon.bounds == (x, 0, x + 20, 40)


def test_joining_what_does_not_touch_gives_two_parts(slide, ids):
    chosen = [ids["left"], ids["far"]]
    roi = roi_tools.combine(slide, chosen, "union", name="both", limits=LIMITS)
    assert roi.polygon.geom_type == "MultiPolygon"
    assert roi.area_um2 == pytest.approx(1600 + 400)


@pytest.mark.parametrize(
    ("names", "operation", "message"),
    [
        (["left", "far"], "intersect", "Nothing is left"),
        (["left"], "union", "Two regions"),
        (["left", "left"], "union", "Two regions"),
    ],
)
def test_what_leaves_nothing_is_refused(slide, ids, names, operation, message):
    with pytest.raises(SpatialFormerError, match=message):
        roi_tools.combine(slide, [ids[n] for n in names], operation, name="x", limits=LIMITS)
    assert len(slide.rois()) == 3


def test_a_shared_edge_is_no_region(slide, services):
    services.save_roi("tiny", square(40, 0, 60, 40.4), "beside", "ann")
    known = {roi.name: roi.roi_id for roi in slide.rois()}
    with pytest.raises(SpatialFormerError, match="Nothing is left"):
        chosen = [known["left"], known["beside"]]
        roi_tools.combine(slide, chosen, "intersect", name="edge", limits=LIMITS)


def test_colour_and_set_are_kept_and_travel_with_the_file(slide, services, ids):
    roi_tools.colour_roi(slide, ids["left"], "#12AB9f", "ann")
    roi_tools.put_into_set(slide, [ids["left"], ids["far"]], " Granulomas ", "ann")
    found = roi_tools.sets_of(services.rois("tiny"))
    assert {name: [r.name for r in rois] for name, rois in found.items()} == {
        "Granulomas": ["far", "left"]
    }
    again = {r.name: r for r in parse_rois(services.export_rois("tiny", "ann"), "tiny")}
    assert (again["left"].color, again["left"].group) == ("#12AB9f", "Granulomas")
    assert again["right"].group is None
    roi_tools.put_into_set(slide, [ids["left"]], None, "ann")
    assert [r.name for r in roi_tools.sets_of(slide.rois())["Granulomas"]] == ["far"]
    for wrong in ("red", "#12345", "#12345g", "#1234567"):
        with pytest.raises(SpatialFormerError, match="no colour"):
            roi_tools.colour_roi(slide, ids["left"], wrong, "ann")
    with pytest.raises(SpatialFormerError, match="printable"):
        roi_tools.put_into_set(slide, [ids["left"]], " ", "ann")


def test_what_another_user_drew_is_out_of_reach(slide, ids):
    for attempt in (
        lambda: roi_tools.colour_roi(slide, ids["left"], "#000000", "bob"),
        lambda: roi_tools.put_into_set(slide, [ids["left"]], "x", "bob"),
        lambda: roi_tools.combine(
            slide, [ids["left"], ids["right"]], "union", name="x", limits=LIMITS, owner="bob"
        ),
        lambda: roi_tools.copy_rois(slide, slide, [ids["left"]], LIMITS, owner="bob"),
    ):
        with pytest.raises(SpatialFormerError, match="no region"):
            attempt()
    assert roi_tools.export_csv(slide, "bob")[0].count("\n") == 3
    assert all(roi.group is None for roi in slide.rois())


def test_explorer_csv_comes_back_as_it_left(slide):
    text, lost = roi_tools.export_csv(slide, "ann")
    head = text.splitlines()[:4]
    assert head == [
        '"#Selection names: far, left, right"',
        '"#Areas (µm^2): 400.00, 1600.00, 1600.00"',
        "Selection,X,Y",
        "far,80.00,0.00",
    ]
    assert lost == []
    again = parse_rois(text, "tiny", slide.meta.bounds_um)
    assert {r.name: r.polygon.bounds for r in again} == {
        r.name: r.polygon.bounds for r in slide.rois()
    }


def test_one_selection_has_the_header_of_one():
    only = parse_rois(square(0, 0, 10, 10), "tiny")
    assert to_explorer_csv(only).splitlines()[:2] == [
        "#Selection name: ROI 1",
        "#Area (µm^2): 100.00",
    ]


def test_parts_and_holes_are_told_where_a_ring_cannot_hold_them():
    hole = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    ring = json.loads(square(0, 0, 10, 10))["coordinates"][0]
    parts = {
        "type": "MultiPolygon",
        "coordinates": [[ring, hole], [[[x + 50, y] for x, y in ring]]],
    }
    feature = {"type": "Feature", "properties": {"name": 'a,"b'}, "geometry": parts}
    rois = parse_rois(feature, "tiny")
    again = parse_rois(to_explorer_csv(rois), "tiny")
    assert [r.name for r in again] == ['a,"b (1)', 'a,"b (2)']
    assert [r.area_um2 for r in again] == [100, 100]


@pytest.fixture
def serial(services, table_folder):
    """The same tissue once more, 200 um to the right."""
    import anndata
    import pyarrow.parquet as pq

    folder = table_folder.parent / "serial"
    if not folder.exists():
        folder.mkdir()
        table = anndata.read_h5ad(table_folder / "cells.h5ad")
        table.obsm["spatial"] = table.obsm["spatial"] + (200, 0)
        table.write_h5ad(folder / "cells.h5ad")
        molecules = pq.read_table(table_folder / "transcripts.parquet").to_pandas()
        molecules["x_location"] += 200
        molecules.to_parquet(folder / "transcripts.parquet")
    sample = SampleMetadata(
        donor="P1", block="2", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
    )
    qc = QcThresholds(min_transcripts=10, min_genes=3)
    ingest(folder, services.store, name="Serial", sample=sample, qc=qc)
    return services.slide("serial")


def test_regions_go_to_a_serial_section(slide, serial, ids):
    chosen = [ids["left"], ids["far"]]
    with pytest.raises(SpatialFormerError, match="No region lies on"):
        roi_tools.copy_rois(slide, serial, chosen, LIMITS)

    made = roi_tools.copy_rois(slide, serial, chosen, LIMITS, move="centre", owner="ann")
    assert {r.name: r.polygon.bounds for r in made.rois} == {
        "left": (200, 0, 240, 40),
        "far": (280, 0, 300, 20),
    }
    assert "(+200, +0) µm" in made.said
    assert [cells(serial, r) for r in serial.rois()] == [4, 16]
    assert {r.slide_id for r in serial.rois()} == {"serial"}
    assert not {r.roi_id for r in serial.rois()} & set(ids.values())

    keypoints = "fixedX,fixedY,alignmentX,alignmentY\n" + "".join(
        f"{x + 200},{y + 10},{x},{y}\n" for x, y in ((0, 0), (50, 0), (0, 50), (50, 50))
    )
    moved = roi_tools.copy_rois(
        slide, serial, [ids["left"]], LIMITS, move="file", file=keypoints, owner="ann"
    )
    assert moved.rois[0].name == "left (2)", "a name is never given twice"
    assert np.allclose(moved.rois[0].polygon.bounds, (200, 10, 240, 50))
    assert "fit to 0.0 µm" in moved.said


def test_what_falls_off_the_tissue_is_told(slide, serial, services, ids):
    services.save_roi("tiny", square(60, 0, 110, 20), "over", "ann")
    known = {roi.name: roi.roi_id for roi in slide.rois()}
    matrix = "1,0,230\n0,1,0\n0,0,1\n"
    chosen = [known[name] for name in ("left", "far", "over")]
    made = roi_tools.copy_rois(slide, serial, chosen, LIMITS, move="file", file=matrix)
    assert [r.name for r in made.rois] == ["left", "over"]
    assert made.warnings[0].startswith("far lies outside Serial: left out")
    assert made.warnings[1].startswith("over: ")
    assert "outside the slide" in made.warnings[1]


# ------------------------------------------------------------------ comparison


def rois(slide, *names):
    by_name = {roi.name: roi for roi in slide.rois()}
    return [by_name[name] for name in names]


def test_composition_of_two_regions_against_counting(slide):
    found = region_contrast.compare_regions(
        slide, rois(slide, "left"), rois(slide, "far"), "cell_type"
    )
    table = found.composition.set_index("group")
    for side, (x0, x1, y1) in (("a", (0, 40, 40)), ("b", (80, 100, 20))):
        n = {"A": 0, "B": 0, "C": 0}
        for i in range(60):
            x, y = i % 10 * 10 + 5, i // 10 * 10 + 5
            if x0 <= x <= x1 and y <= y1:
                n["ABC"[i % 3]] += 1
        assert {g: int(v) for g, v in table[f"cells_{side}"].items()} == n
        assert np.allclose(table[f"share_{side}"], [n[g] / sum(n.values()) for g in table.index])
    assert np.allclose(table["difference"], table["share_a"] - table["share_b"])


def test_genes_against_sums_over_cells_and_without_p(slide):
    found = region_contrast.compare_regions(
        slide, rois(slide, "left"), rois(slide, "far"), "cell_type"
    )
    assert "p" not in found.genes
    assert "3 on each side" in found.why_no_p
    dense, kept = slide.counts.toarray(), slide.passes_qc
    levels = []
    for roi in rois(slide, "left", "far"):
        chosen = dense[select_cells(slide.xy_um, roi.polygon) & kept]
        levels.append(1e4 * chosen.sum(0) / chosen.sum())
    for row in found.genes.itertuples():
        at = slide.genes.index(row.gene)
        assert row.per_10k_a == pytest.approx(levels[0][at])
        assert row.log2_ratio == pytest.approx(np.log2((levels[0][at] + 1) / (levels[1][at] + 1)))
    # GENE3-GENE8 have no count at all: nothing to compare.
    assert found.n_left_out + len(found.genes) == len(slide.genes)
    assert found.n_left_out >= 6


def test_within_one_type_only_its_cells_count(slide):
    found = region_contrast.compare_regions(
        slide, rois(slide, "left"), rois(slide, "far"), "cell_type", within="A"
    )
    codes = np.asarray(slide.group("cell_type").codes)
    mask = select_cells(slide.xy_um, rois(slide, "left")[0].polygon) & slide.passes_qc
    assert found.cells_a == int((mask & (codes == 0)).sum())


def test_sides_that_share_cells_are_refused(slide):
    with pytest.raises(SpatialFormerError, match="8 cells lie in both"):
        region_contrast.compare_regions(
            slide, rois(slide, "left"), rois(slide, "right"), "cell_type"
        )


def test_with_enough_regions_there_is_a_p_over_regions():
    """Six regions of 20 cells; one gene differs between the sides, the others do not."""
    from types import SimpleNamespace

    from scipy import sparse

    rng = np.random.default_rng(0)
    side, region = np.repeat([0, 0, 0, 1, 1, 1], 20), np.repeat(np.arange(6), 20)
    rate = np.full((120, 30), 5.0)
    rate[side == 0, 7] = 40.0
    counts = rng.poisson(rate * rng.gamma(20, 1 / 20, (6, 30))[region])
    import shapely

    xy = np.stack([region * 100 + rng.uniform(1, 99, 120), rng.uniform(1, 99, 120)], axis=1)
    slide = SimpleNamespace(
        xy_um=xy,
        passes_qc=np.ones(120, bool),
        counts=sparse.csr_matrix(counts),
        genes=tuple(f"G{i}" for i in range(30)),
        group=lambda key: SimpleNamespace(categories=("x",), codes=np.zeros(120, np.int16)),
    )
    boxes = [SimpleNamespace(polygon=shapely.box(100 * i, 0, 100 * i + 100, 100)) for i in range(6)]
    found = region_contrast.compare_regions(slide, boxes[:3], boxes[3:], "key")
    assert (found.units_a, found.units_b, found.why_no_p) == (3, 3, None)
    assert found.genes["gene"][0] == "G7"
    assert found.genes["q"][0] < 0.05
    assert (found.genes["q"][1:] > 0.05).all()

    twice = region_contrast.compare_regions(slide, [*boxes[:3], boxes[0]], boxes[3:], "key")
    assert "share cells" in twice.why_no_p
    assert "p" not in twice.genes


def test_regions_become_a_grouping_that_other_pages_can_take(slide, services, ids, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(services.home))
    monkeypatch.setattr(changes, "ensure_worker", lambda home: True)
    sides = {"Rim": (ids["left"], ids["far"]), "Core": (ids["right"],)}
    change = changes.RegionsChange(slide_id="tiny", key="regions", sides=sides)
    job_id = changes.start_change(services, change, "ann")
    run_job(services.queue, job_id, resolve, silent)
    groups = services.slide("tiny").group("regions")
    names = np.array([*groups.categories, ""])[np.asarray(groups.codes)]
    for i, name in enumerate(names):
        x, y = i % 10 * 10 + 5, i // 10 * 10 + 5
        rim = (x < 40 and y < 40) or (x > 80 and y < 20)
        core = 20 < x < 60 and y < 40
        assert name == ("" if rim == core else "Rim" if rim else "Core")
    assert "8 cells of two" in changes.change_report(services, job_id).said[0]
    same = {"A": sides["Core"], "B": sides["Core"]}
    empty = changes.RegionsChange(slide_id="tiny", key="x", sides=same)
    with pytest.raises(SpatialFormerError, match="No cell lies in A alone"):
        changes.start_change(services, empty, "ann")
