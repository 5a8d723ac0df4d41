"""Regions with mouse and keyboard: exactly the cells inside, at any zoom; colours keep the view."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
import shapely

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services
from spatialformer_core.slides import ingest

pytestmark = pytest.mark.browser

RING = [(0.36, 0.30), (0.55, 0.34), (0.60, 0.52), (0.47, 0.45), (0.40, 0.62), (0.33, 0.50)]
"""Corners of a lasso that is not convex, as shares of the viewer's width and height."""


@pytest.fixture
def viewer(page, served, app_slide, tmp_path):
    """The box of a viewer of the small slide, and the slide's services."""
    url, home = served
    services = open_services(home)
    sample = SampleMetadata(**app_slide.SAMPLE)
    folder = tmp_path / "roots" / "small"
    ingest(folder, services.store, name="Small", sample=sample, qc=QcThresholds())
    page.set_default_timeout(240_000)
    page.goto(f"{url}/tissue?slide=small")
    box = page.locator('.sf[data-state="ready"]')
    box.wait_for()
    return box, services


def state(box, expression):
    return box.evaluate(f"(box) => box.tissueViewer.{expression}")


def lasso(page, box, shift):
    page.get_by_role("button", name="Lasso (L)").click()
    frame = box.bounding_box()
    path = [
        (frame["x"] + (x + shift) * frame["width"], frame["y"] + y * frame["height"])
        for x, y in RING
    ]
    page.mouse.move(*path[0])
    page.mouse.down()
    for x, y in path[1:]:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


def cells_on_page(page, hands):
    """Ids of the cells that the page offers of the region shown."""
    hands.settle()
    button = page.get_by_role("button", name="Its cells (CSV)")
    return set(pd.read_csv(io.BytesIO(hands.download(button.click)))["cell_id"])


def press_plus(page, box, times):
    """Zoom in by key and wait until the view has glided there."""
    box.focus()
    for _ in range(times):
        page.keyboard.press("+")
        while state(box, "camera.goal"):
            page.wait_for_timeout(50)


def place(box):
    return state(box, "camera.state.target.slice(0, 2)"), state(box, "camera.state.zoom")


def test_a_lasso_takes_the_cells_inside_and_files_bring_it_back(page, hands, viewer):
    box, services = viewer
    slide = services.slide("small")
    points = shapely.points(np.asarray(slide.xy_um, float))
    for zoomed, shift in ((0, 0.0), (1, 0.02), (1, -0.03)):
        press_plus(page, box, zoomed)
        lasso(page, box, shift)
        polygon = shapely.Polygon(state(box, "draft"))
        inside = set(slide.cell_ids[shapely.intersects(polygon, points)].tolist())
        assert len(inside) > 8
        assert cells_on_page(page, hands) == inside
        assert hands.metric("cells") == f"{len(inside):,}"

    # The saved outline is the drawn one, out and in again as GeoJSON and as Explorer's CSV.
    page.get_by_role("textbox", name="Name of the drawn region").fill("Granuloma")
    page.get_by_role("button", name="Save region").click()
    page.get_by_text("Composition · Granuloma").wait_for()
    (roi,) = services.rois("small")
    assert roi.polygon.equals(polygon)
    page.get_by_text("Import and export").click()
    buttons = ("Export 1 region", "Export for Xenium Explorer")
    texts = [
        hands.download(page.get_by_role("button", name=name).click).decode() for name in buttons
    ]
    assert json.loads(texts[0])["features"][0]["properties"]["name"] == "Granuloma"
    for text in texts:
        for saved in services.rois("small"):
            services.delete_roi("small", saved.roi_id)
        page.get_by_role("textbox", name="or paste it").fill(text)
        page.get_by_role("button", name="Import", exact=True).click()
        page.get_by_text("1 region imported").first.wait_for()
        hands.settle()
        (again,) = services.rois("small")
        assert again.name == "Granuloma"
        assert again.polygon.equals_exact(polygon, 0.006, normalize=True)
        assert cells_on_page(page, hands) == inside


def test_colours_leave_the_view_and_a_range_asks_nothing(page, hands, viewer):
    box, services = viewer
    slide = services.slide("small")
    press_plus(page, box, 3)
    before = place(box)
    hands.choose("Colour cells by", "Quality")
    page.locator('.sf[data-colour="value:n_transcripts"]').wait_for()
    assert place(box) == before
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    low = box.get_by_label("Lowest colour at")
    box.get_by_label("Hide cells below").check()
    shown = "stage.rgba.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0)"
    assert state(box, shown) == slide.meta.n_cells
    low.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    least = state(box, "range().low")
    counts = np.asarray(slide.n_transcripts)
    assert counts.min() < least < counts.max()
    assert state(box, shown) == int((counts >= least).sum())
    assert [url for url in asked if "/sf/" in url] == []

    # The overview moves the view; the key I tells of the cell in its middle.
    frame = page.locator(".minimap").bounding_box()
    page.mouse.click(frame["x"] + 0.3 * frame["width"], frame["y"] + 0.7 * frame["height"])
    x0, y0, x1, y1 = slide.meta.bounds_um
    assert np.allclose(place(box)[0], (x0 + 0.3 * (x1 - x0), y0 + 0.7 * (y1 - y0)), atol=5)
    cell = 700
    box.evaluate("(box, at) => box.tissueViewer.goTo(at)", slide.xy_um[cell].tolist())
    box.focus()
    page.keyboard.press("i")
    card = page.get_by_role("dialog", name="Cell")
    card.get_by_text(str(slide.cell_ids[cell]), exact=True).wait_for()
    assert card.get_by_text(f"{slide.n_transcripts[cell]} transcripts").is_visible()


def test_a_region_is_copied_to_a_serial_slide(page, hands, viewer, app_slide, tmp_path):
    box, services = viewer
    sample = SampleMetadata(**app_slide.SAMPLE)
    folder = tmp_path / "roots" / "small"
    ingest(folder, services.store, name="Serial", sample=sample, qc=QcThresholds())
    lasso(page, box, 0.0)
    page.get_by_role("textbox", name="Name of the drawn region").fill("Granuloma")
    page.get_by_role("button", name="Save region").click()
    page.get_by_text("Composition · Granuloma").wait_for()
    page.get_by_text("Join, cut, sets, copies").click()
    hands.choose("What to do", "Copy to a slide")
    hands.choose("Regions", "Granuloma")
    page.keyboard.press("Escape")
    hands.choose("To slide", "Serial")
    hands.settle()
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("1 region copied to Serial.", exact=False).wait_for()
    (here,), (there,) = services.rois("small"), services.rois("serial")
    assert there.name == here.name
    assert there.polygon.equals(here.polygon)
