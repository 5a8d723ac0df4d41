"""From a folder on disk to a downloaded gene-pair table, with mouse and keyboard."""

from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.service import open_services

pytestmark = pytest.mark.browser

JOB_MS = 180_000
FIELDS = {"Donor": "P1", "Block": "1", "Condition": "Disease", "Tissue": "Lung"}
FIELDS |= {"Species": "Human", "Assay": "Xenium"}


def register(page, hands):
    page.get_by_role("button", name="Register slide").wait_for()
    hands.choose("Folder on the server", "small")
    page.get_by_label("Name", exact=True).fill("Small")
    for label, value in FIELDS.items():
        hands.choose(label, value)
    page.get_by_role("button", name="Register slide").click()


def draw_lasso(page):
    """Draw an octagon around the middle of the viewer; it holds part of the tissue."""
    page.locator('.sf[data-state="ready"]').wait_for(timeout=JOB_MS)
    page.get_by_role("button", name="Lasso (L)").click()
    box = page.locator(".sf > canvas").bounding_box()
    centre = box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2
    radius = 0.28 * box["height"]
    angles = np.linspace(0, 2 * np.pi, 9)
    path = [(centre[0] + radius * np.cos(a), centre[1] + radius * np.sin(a)) for a in angles]
    page.mouse.move(*path[0])
    page.mouse.down()
    for x, y in path[1:]:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def inside(ring, xy):
    """Tell which points lie in a polygon, by counting crossings of a ray (no library)."""
    found = np.zeros(len(xy), bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(ring):
        crosses = (y0 > xy[:, 1]) != (y1 > xy[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (xy[:, 1] - y0) * (x1 - x0) / (y1 - y0)
        found ^= crosses & (xy[:, 0] < at)
    return found


def saved_ring(home):
    (feature,) = json.loads(open_services(home).export_rois("small"))["features"]
    assert feature["properties"]["name"] == "Granuloma"
    return np.array(feature["geometry"]["coordinates"][0])


def run_screen(page, hands):
    page.get_by_role("link", name="Perturbation").click()
    page.get_by_role("heading", name="Perturbation").wait_for()
    hands.choose("Regions", "Granuloma")
    page.keyboard.press("Escape")
    hands.choose("Model (checkpoint)", "untrained")
    page.get_by_text("Use it all the same").click()
    hands.choose("First cell type", "Macrophage")
    hands.choose("Second cell type", "T cell")
    page.get_by_role("button", name="Start screen").wait_for(timeout=JOB_MS)
    page.get_by_text("Details", exact=True).click()
    hands.choose("Replicate unit", "region")
    page.get_by_text("Pairs in each roi").wait_for(timeout=JOB_MS)
    page.get_by_role("button", name="Start screen").click(timeout=JOB_MS)
    page.get_by_text("gene pairs tested", exact=False).first.wait_for(timeout=JOB_MS)


PICTURES = ("Heat map", "Network", "Map", "Ranks")
PARTS = {
    "Known pairs": "No table of known",
    "Gene sets": "No gene-set library",
    "Models": "One model carried out",
    "Nulls": "No null run",
    "liana": "liana was not asked for",
    "Direction": "less contact without",
    "Methods": "was knocked out",
}


def look_around(page, hands):
    """Open every picture and part of the result; then follow an example cell pair's link."""
    for name in PICTURES:
        page.get_by_role("radio", name=name, exact=True).click()
        hands.settle()
        page.locator(".js-plotly-plot").first.wait_for()
    parts = page.get_by_role("radiogroup", name="More of this screen")
    for name, text in PARTS.items():
        parts.get_by_role("radio", name=name, exact=True).click()
        page.get_by_text(text).first.wait_for()
    page.get_by_role("radio", name="Example cells", exact=True).click()
    page.get_by_role("link", name="Pair 1 in the tissue").wait_for()
    hands.settle()
    assert page.get_by_test_id("stAlert").filter(has_text="Traceback").count() == 0
    assert page.get_by_test_id("stException").count() == 0


def download_csv(page, hands):
    button = page.get_by_role("button", name="CSV", exact=True).first
    return pd.read_csv(io.BytesIO(hands.download(button.click)))


def near_pairs(xy, types, chosen, radius_um=30.0):
    """Count macrophage-T pairs at most 30 um apart, both in the region and past QC."""
    a, b = xy[chosen & (types == 1)], xy[chosen & (types == 2)]
    return int((((a[:, None] - b[None]) ** 2).sum(-1) <= radius_um**2).sum())


def test_from_folder_to_csv(page, hands, served, app_slide):
    url, home = served
    page.goto(url)
    register(page, hands)
    page.get_by_role("link", name="Open tissue").click(timeout=JOB_MS)

    draw_lasso(page)
    page.get_by_role("textbox", name="Name of the drawn region").fill("Granuloma")
    page.get_by_role("button", name="Save region").click()
    page.get_by_text("Composition · Granuloma").wait_for()
    xy, types, counts = app_slide.tissue()
    chosen = inside(saved_ring(home), xy)
    assert 100 < chosen.sum() < 1400
    assert hands.metric("cells") == f"{chosen.sum():,}"

    run_screen(page, hands)
    look_around(page, hands)
    table = download_csv(page, hands)
    genes = app_slide.GENES[: app_slide.N_EXPRESSED]
    assert sorted(zip(table["gene_left"], table["gene_right"], strict=True)) == sorted(
        (a, b) for a in genes for b in genes
    )
    # Every cell past QC has all twelve genes, so each gene pair rests on every pair used.
    passes = (counts > 0).sum(1) >= 10
    used = min(near_pairs(xy, types, chosen & passes), 400)
    assert set(table["n_pairs"]) == {used}
    np.testing.assert_allclose(table["d_diff"], table["d_near"] - table["d_far"], atol=1e-6)
    assert np.isfinite(table[["d_diff", "d_low", "d_high", "epsilon"]]).all(axis=None)
    assert table["p"].isna().all(), "one region is one replicate unit: no p-value"

    job = open_services(home).jobs("local")[0]
    result = open_services(home).screen_result(job.id).table
    pd.testing.assert_frame_equal(table, pd.read_csv(io.StringIO(result.to_csv(index=False))))
