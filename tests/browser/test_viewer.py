"""The viewer with mouse and keyboard: transcripts far and near, a picture file, corners, undo."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services
from spatialformer_core.service.view import SlideView
from spatialformer_core.slides import ingest

pytestmark = pytest.mark.browser

GENES = ("GENE00", "GENE03")
FIRST_COLOUR = (230, 0, 122)


@pytest.fixture
def viewer(page, served, app_slide, tmp_path):
    """The box of a viewer that shows two genes, opened by a link; and its slide."""
    url, home = served
    store = open_services(home).store
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(tmp_path / "roots" / "small", store, name="Small", sample=sample, qc=QcThresholds())
    page.goto(f"{url}/tissue?slide=small&genes={','.join(GENES)},NOPE")
    box = page.locator('.sf[data-state="ready"]')
    box.wait_for()
    return box, store.open("small")


def state(box, expression):
    return box.evaluate(f"(box) => box.tissueViewer.{expression}")


def wait_for_mode(page, mode):
    page.locator(f'.sf[data-transcripts="{mode}"]').wait_for()


def pixels_of_first_gene(page):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save picture (PNG)").click()
    picture = imagecodecs.png_decode(waiting.value.path().read_bytes())
    return int((np.abs(picture[..., :3].astype(int) - FIRST_COLOUR).max(axis=2) < 32).sum())


def drag(page, box, start, end):
    frame = box.bounding_box()
    page.mouse.move(frame["x"] + start[0], frame["y"] + start[1])
    page.mouse.down()
    page.mouse.move(frame["x"] + end[0], frame["y"] + end[1], steps=4)
    page.mouse.up()


def test_transcripts_are_a_map_from_afar_and_dots_when_near(page, viewer):
    box, slide = viewer
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
    assert pixels_of_first_gene(page) > 200
    box.get_by_role("button", name="GENE00").click()
    assert pixels_of_first_gene(page) == 0

    # A corner is moved, an edge gets a corner, both are taken back.
    page.get_by_role("button", name="Rectangle (R)").click()
    drag(page, box, (120, 120), (320, 320))
    drawn = state(box, "draft")
    assert len(drawn) == 4
    page.get_by_role("button", name="Move corners (E)").click()
    drag(page, box, (320, 320), (360, 380))
    moved = state(box, "draft")
    assert [a == b for a, b in zip(drawn, moved, strict=True)].count(False) == 1
    drag(page, box, (220, 120), (220, 90))
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
