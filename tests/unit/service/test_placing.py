"""An image placed anew: fitted, looked at, saved beside the slide, taken back."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.images import check_overlap, morphology_matrix, placed_he
from spatialformer_core.io.records import ImageSource
from spatialformer_core.service import placing
from spatialformer_core.service.view import SlideView
from spatialformer_core.slides import SlideStore
from spatialformer_core.slides.meta import ChannelMeta, ImageMeta

OLD = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 1.0))
TRUE = np.array([[0.49, -0.03, 12.0], [0.03, 0.49, -7.0], [0, 0, 1]])


@pytest.fixture
def slide(services):
    """The tiny slide with the record of an H&E; nothing here reads its pixels."""
    channel = ChannelMeta(name="rgb", low=0, high=255)
    image = ImageMeta(
        name="he",
        kind="he",
        channels=(channel,),
        width=200,
        height=120,
        levels=1,
        tile_px=512,
        um_from_px=OLD,
        pixel_size_um=0.5,
    )
    opened = services.slide("tiny")
    opened.meta = opened.meta.model_copy(update={"images": (image,)})
    return opened


def pairs_of(matrix, points, noise=0.0, seed=0):
    points = np.asarray(points, float)
    there = points @ matrix[:2, :2].T + matrix[:2, 2]
    there += noise * np.random.default_rng(seed).normal(size=there.shape)
    return [(*map(float, a), *map(float, b)) for a, b in zip(points, there, strict=True)]


CORNERS = [(0, 0), (200, 0), (0, 120), (200, 120), (90, 70)]


def test_pairs_give_back_the_matrix_that_made_them(slide):
    fit = placing.fit_pairs(slide, "he", pairs_of(TRUE, CORNERS))
    assert np.allclose(fit.um_from_px, TRUE)
    assert fit.rms_um == pytest.approx(0, abs=1e-9)
    corners = np.array(CORNERS[:4]) @ (TRUE[:2, :2] - np.array(OLD)[:2, :2]).T + TRUE[:2, 2]
    assert fit.moved_um == pytest.approx(np.hypot(*corners.T).max())
    assert fit.doubts == ()


def test_the_error_is_that_of_least_squares(slide):
    pairs = pairs_of(TRUE, CORNERS, noise=2.0)
    fit = placing.fit_pairs(slide, "he", pairs)
    points = np.array(pairs)
    design = np.c_[points[:, :2], np.ones(5)]
    rest = points[:, 2:] - design @ np.linalg.lstsq(design, points[:, 2:], rcond=None)[0]
    errors = np.hypot(*rest.T)
    assert fit.errors_um == pytest.approx(errors)
    assert fit.rms_um == pytest.approx(np.sqrt((errors**2).mean()))
    assert placing.fit_pairs(slide, "he", pairs[:3]).rms_um is None, "three always fit"


@pytest.mark.parametrize(
    "points", [CORNERS[:2], [(0, 0), (50, 50), (100, 100), (150, 150)], [(1, 1)] * 4]
)
def test_too_few_pairs_or_pairs_on_a_line_place_nothing(slide, points):
    with pytest.raises(SpatialFormerError):
        placing.fit_pairs(slide, "he", pairs_of(TRUE, points))


def test_what_looks_wrong_is_said(slide):
    mirrored = np.diag([-0.5, 0.5, 1.0])
    large = np.diag([2.0, 2.0, 1.0])
    away = np.array([[0.5, 0, 9e4], [0, 0.5, 9e4], [0, 0, 1]])
    for matrix, word in (
        (mirrored, "mirrored"),
        (large, "4.00 times"),
        (away, "beside the tissue"),
    ):
        fit = placing.fit_pairs(slide, "he", pairs_of(matrix, CORNERS))
        assert any(word in doubt for doubt in fit.doubts), (word, fit.doubts)


def test_saved_seen_by_the_viewer_and_undone_step_by_step(slide, services):
    before = files.read_json(services.store.path("tiny") / "meta.json")
    assert SlideView(slide).info()["images"][0]["um_from_px"] == [list(row) for row in OLD]
    for matrix in (TRUE, np.diag([0.4, 0.4, 1.0])):
        placing.save(slide, "he", placing.fit_pairs(slide, "he", pairs_of(matrix, CORNERS)), "ann")
    shown = SlideView(slide).info()["images"][0]
    assert np.allclose(shown["um_from_px"], np.diag([0.4, 0.4, 1.0]))
    assert shown["pixel_size_um"] == pytest.approx(0.4)
    assert [step.owner for step in placing.history(slide, "he")] == ["ann", "ann"]

    placing.undo(slide, "he")
    assert np.allclose(placing.images(slide)[0].um_from_px, TRUE)
    placing.undo(slide, "he")
    assert placing.images(slide)[0].um_from_px == OLD
    with pytest.raises(SpatialFormerError, match="as it was ingested"):
        placing.undo(slide, "he")
    assert files.read_json(services.store.path("tiny") / "meta.json") == before
    assert SlideStore(services.home).verify("tiny") == []


def test_another_image_of_that_name_is_not_moved(slide):
    placing.save(slide, "he", placing.fit_pairs(slide, "he", pairs_of(TRUE, CORNERS)), "ann")
    other = slide.meta.images[0].model_copy(update={"width": 999})
    slide.meta = slide.meta.model_copy(update={"images": (other,)})
    assert placing.images(slide)[0].um_from_px == OLD


def test_a_file_counts_in_pixels_of_the_morphology(slide):
    text = "1,0,10\n0,1,20\n0,0,1\n"
    fit = placing.fit_file(slide, "he", text)
    assert np.allclose(
        fit.um_from_px,
        placing.XENIUM_PIXEL_UM * np.array([[1, 0, 10], [0, 1, 20], [0, 0, 1]])
        + np.diag([0, 0, 1 - placing.XENIUM_PIXEL_UM]),
    )
    assert np.allclose(placing.fit_file(slide, "he", text, 2.0).um_from_px[:2, 2], (20, 40))
    keypoints = (
        "fixedX,fixedY,alignmentX,alignmentY\n0,0,0,0\n100,0,50,0\n0,100,0,50\n104,100,50,50\n"
    )
    fit = placing.fit_file(slide, "he", keypoints, 0.25)
    assert fit.rms_um == pytest.approx(0.25 * 1.0)
    with pytest.raises(SpatialFormerError, match="3x3"):
        placing.fit_file(slide, "he", "1,2\n")


def test_an_he_beside_a_stain_follows_the_stains_corner(tmp_path):
    """The matrix leads to pixels of the stain, which need not begin at the slide's origin."""
    import tifffile

    tifffile.imwrite(tmp_path / "he.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    (tmp_path / "a.csv").write_text("2,0,4\n0,2,6\n0,0,1\n")
    turned = np.array([[0.0, -0.2, 100.0], [0.2, 0.0, -50.0], [0, 0, 1]])
    stain = ImageSource("morphology", "stain", (tmp_path / "x.tif",), turned)
    found = placed_he(tmp_path / "he.tif", tmp_path / "a.csv", [stain])
    # H&E pixel (0, 0) is stain pixel (4, 6): 0.2 um each, turned by 90 degrees.
    assert np.allclose(found.um_from_px @ (0, 0, 1), (100 - 1.2, -50 + 0.8, 1))
    assert np.allclose(found.um_from_px @ (1, 0, 1), (100 - 1.2, -50 + 0.8 + 0.4, 1))


def test_alignments_lead_to_the_stain_that_lies_as_it_was_taken():
    turned = np.array([[-0.7, 0.01, 500.0], [-0.01, -0.7, 900.0], [0, 0, 1]])
    upright = np.array([[0.2, 0, 30.0], [0, 0.2, 40.0], [0, 0, 1]])
    marker = ImageSource("marker", "stain", (), turned)
    other = ImageSource("other", "stain", (), turned)
    morphology = ImageSource("morphology", "stain", (), upright)
    he = ImageSource("he", "he", (), np.eye(3))
    assert np.array_equal(morphology_matrix([he, marker, morphology]), upright)
    assert np.array_equal(morphology_matrix([he, marker]), turned)
    assert morphology_matrix([marker, other]) is None
    assert morphology_matrix([he]) is None


def test_an_image_beside_the_slide_is_refused(tmp_path):
    import tifffile

    path = tmp_path / "he.tif"
    tifffile.imwrite(path, np.zeros((40, 80, 3), np.uint8), photometric="rgb")
    slide_um = (100.0, 100.0, 300.0, 200.0)

    def lying_at(x_um, y_um):
        matrix = np.array([[1.0, 0, x_um], [0, 1.0, y_um], [0, 0, 1]])
        return ImageSource("he", "he", (path,), matrix)

    # 80 x 40 um: its last pixels reach the slide, or end just before it.
    check_overlap(lying_at(21, 61), slide_um)
    for x_um, y_um in ((19, 61), (21, 59), (301, 150), (150, 201)):
        with pytest.raises(SpatialFormerError, match="beside the slide: to x"):
            check_overlap(lying_at(x_um, y_um), slide_um)
