"""The viewer with mouse and keyboard: transcripts, corners, undo, cells, files, an image placed."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import imagecodecs
import numpy as np
import pytest
import tifffile

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.io.records import ImageSource
from spatialformer_core.service import open_services, placing
from spatialformer_core.service.view import SlideView
from spatialformer_core.slides import SlideChange, change_slide, ingest

pytestmark = pytest.mark.browser

GENES = ("GENE00", "GENE03")
FIRST_COLOUR = (230, 0, 122)
HE_COLOUR = (250, 200, 90)
UM_FROM_PX = np.array([[2.0, 0, -10], [0, 2.0, -10], [0, 0, 1]])
TOO_MANY = "501,000 transcripts lie in this view; 500,000 are shown at once. Zoom in."


@pytest.fixture
def opened(page, served, app_slide, tmp_path):
    """Opens the viewer of the small slide, with a plain H&E on it, by a link to some genes."""
    url, home = served
    store = open_services(home).store
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(tmp_path / "roots" / "small", store, name="Small", sample=sample, qc=QcThresholds())

    def open_viewer(genes, with_image=False):
        if with_image:
            path = tmp_path / "he.tif"
            tifffile.imwrite(path, np.full((210, 210, 3), HE_COLOUR, np.uint8), photometric="rgb")
            image = ImageSource("he", "he", (path,), UM_FROM_PX)
            change_slide(store, "small", SlideChange(image=image))
        page.set_default_timeout(240_000)
        page.goto(f"{url}/tissue?slide=small&genes={','.join(genes)}")
        box = page.locator('.sf[data-state="ready"]')
        box.wait_for()
        return box, store.open("small")

    return open_viewer


def state(box, expression):
    return box.evaluate(f"(box) => box.tissueViewer.{expression}")


def wait_for_mode(page, mode):
    page.locator(f'.sf[data-transcripts="{mode}"]').wait_for()


def picture(page, hands):
    press = page.get_by_role("button", name="Save picture (PNG)").click
    return imagecodecs.png_decode(hands.download(press))[..., :3].astype(int)


def close_to(pixels, colour, most=32):
    return np.abs(pixels - colour).max(axis=2) < most


def click_at(page, box, x, y):
    frame = box.bounding_box()
    page.mouse.click(frame["x"] + x, frame["y"] + y)


def test_transcripts_are_a_map_from_afar_and_dots_when_near(page, hands, opened):
    box, slide = opened([*GENES, "NOPE"])
    wait_for_mode(page, "density")
    box.focus()
    page.keyboard.press("+")
    wait_for_mode(page, "molecules")
    # What the browser holds is what the store has there, gene by gene.
    window = state(box, "transcripts.molecules.window")
    body = SlideView(slide).molecules(GENES, tuple(window))
    n = int(np.frombuffer(body, "<u4", 1)[0])
    which = np.frombuffer(body, "u1", n, 4 + 8 * n)
    lengths = [last - first for first, last in state(box, "transcripts.molecules.runs")]
    assert lengths == np.bincount(which, minlength=2).tolist()
    assert min(lengths) > 100

    page.get_by_label("Show the cells").uncheck()
    assert close_to(picture(page, hands), FIRST_COLOUR).sum() > 200
    box.get_by_role("button", name="GENE00").click()
    assert close_to(picture(page, hands), FIRST_COLOUR).sum() == 0

    # A corner is moved, an edge gets a corner, both are taken back.
    page.get_by_role("button", name="Rectangle (R)").click()
    hands.drag(box, (120, 120), (320, 320))
    drawn = state(box, "draft")
    assert len(drawn) == 4
    page.get_by_role("button", name="Move corners (E)").click()
    hands.drag(box, (320, 320), (360, 380))
    moved = state(box, "draft")
    assert [a == b for a, b in zip(drawn, moved, strict=True)].count(False) == 1
    hands.drag(box, (220, 120), (220, 90))
    assert len(state(box, "draft")) == 5
    box.focus()
    page.keyboard.press("z")
    assert state(box, "draft") == moved
    page.keyboard.press("z")
    assert state(box, "draft") == drawn
    page.get_by_role("button", name="Discard the drawn region").click()
    assert state(box, "draft") is None
    page.keyboard.press("z")
    assert state(box, "draft") == drawn


def test_six_genes_and_what_the_server_refuses(page, hands, opened):
    genes = [f"GENE{i:02d}" for i in range(6)]
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.fulfill(status=413, content_type="text/plain", body=TOO_MANY)

    page.route("**/molecules.bin*", refuse)
    box, slide = opened(genes)
    wait_for_mode(page, "density")
    box.focus()
    page.keyboard.press("+")
    box.get_by_role("status").get_by_text(TOO_MANY).wait_for()
    # The map stays, and what was refused is not asked again.
    wait_for_mode(page, "many")
    assert len(asked) == 1
    page.unroute("**/molecules.bin*")
    page.keyboard.press("ArrowRight")
    wait_for_mode(page, "molecules")
    body = SlideView(slide).molecules(genes, tuple(state(box, "transcripts.molecules.window")))
    n = int(np.frombuffer(body, "<u4", 1)[0])
    which = np.frombuffer(body, "u1", n, 4 + 8 * n)
    lengths = [last - first for first, last in state(box, "transcripts.molecules.runs")]
    assert lengths == np.bincount(which, minlength=6).tolist()
    shown = box.locator(".genes .swatch").evaluate_all(
        "(all) => all.map((e) => e.style.getPropertyValue('--swatch'))"
    )
    assert len(set(shown)) == 6


def test_image_and_cells_are_compared_and_the_image_placed_by_clicks(page, hands, opened):
    box, slide = opened(GENES, with_image=True)
    wait_for_mode(page, "density")
    box.focus()
    page.keyboard.press("a")
    line = box.get_by_role("slider", name="Line between image and cells")
    hands.drag(line, (12, 300), (-88, 300))
    share = int(line.get_attribute("aria-valuenow")) / 100
    assert 0.3 < share < 0.45
    seen = close_to(picture(page, hands), HE_COLOUR, 12)
    at = round(share * seen.shape[1])
    # Left of the line lies the image alone, right of it there is nothing of it.
    assert seen[:, : at - 8].any()
    assert not seen[:, at + 8 :].any()
    rows = np.nonzero(seen[:, at - 60])[0]
    assert seen[rows[0] : rows[-1], at - 60].all(), "neither cells nor transcripts lie over it"

    box.focus()
    page.keyboard.press("a")
    for image in ("true", "false", "true"):
        script = f"(box) => box.tissueViewer.check.showsImage === {image}"
        page.wait_for_function(script, arg=box.element_handle())
    page.keyboard.press("a")
    assert state(box, "check.mode") == "off"

    # Each second click lies 12 px right of and 6 px below the first: the image belongs there.
    page.keyboard.press("k")
    um_per_px = 2.0 ** -state(box, "camera.state.zoom")
    for number, (x, y) in enumerate([(200, 150), (400, 170), (300, 450), (420, 430)], 1):
        click_at(page, box, x, y)
        page.get_by_text("Now click where this belongs among the cells").wait_for()
        click_at(page, box, x + 12, y + 6)
        page.get_by_text(f"{number} set, 3 at least").wait_for()
    page.keyboard.press("z")
    page.get_by_text("3 set, 3 at least").wait_for()
    page.get_by_text("Place the image", exact=True).click()
    page.get_by_text("Three pairs always fit").wait_for()
    hands.settle()
    page.get_by_role("button", name="Place the image so").first.click()
    page.get_by_text("The image lies anew").wait_for()
    moved = np.array([[0, 0, 12], [0, 0, 6], [0, 0, 0]]) * um_per_px
    (image,) = placing.images(slide)
    np.testing.assert_allclose(image.um_from_px, UM_FROM_PX + moved, atol=0.2)


def test_a_cell_a_vector_file_and_the_full_screen(page, hands, opened):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    box, slide = opened(())
    cell = 777
    at = "(box, um) => box.tissueViewer.stage.toPx(um, ...box.tissueViewer.size)"
    click_at(page, box, *box.evaluate(at, slide.xy_um[cell].tolist()))
    card = page.get_by_role("dialog", name="Cell")
    card.get_by_text(f"{slide.n_transcripts[cell]} transcripts").wait_for()
    page.get_by_role("button", name="Copy id").click()
    box.get_by_role("status").get_by_text(f"{slide.cell_ids[cell]} is copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == slide.cell_ids[cell]
    box.focus()
    page.keyboard.press("Escape")
    assert not card.is_visible()

    # By keys alone: a view, the file of it, the full screen and back.
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("(box) => !box.tissueViewer.camera.goal", arg=box.element_handle())
    svg = ET.fromstring(hands.download(lambda: page.keyboard.press("v")))
    names = {"svg": "http://www.w3.org/2000/svg"}
    width, height = state(box, "size")
    assert (svg.get("width"), svg.get("height")) == (str(width), str(height))
    assert svg.find("svg:image", names).get("href").startswith("data:image/png;base64,")
    bar = svg.find(".//svg:g[@id='scale-bar']/svg:text", names).text
    assert bar == page.locator(".scale .bar-box span").inner_text()
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement !== null")
    assert box.bounding_box()["width"] == page.viewport_size["width"]
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement === null")
