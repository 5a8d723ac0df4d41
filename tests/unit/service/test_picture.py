"""The picture that the server draws: each cell in its colour at its place."""

from __future__ import annotations

from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Groups
from spatialformer_core.service.palette import REST, UNASSIGNED, group_colours
from spatialformer_core.service.picture import Places, cell_picture

XY_UM = np.array([[100.0, 50.0], [300.0, 50.0], [500.0, 250.0], [700.0, 450.0]])
COUNTS = np.array([0.0, 1.0, 5.0, 2.0], np.float32)


def column(gene):
    if gene != "CD3E":
        raise SpatialFormerError("not on the panel")
    return COUNTS


@pytest.fixture
def slide():
    return SimpleNamespace(
        xy_um=XY_UM,
        area_um2=np.full(4, 100.0),
        passes_qc=np.array([True, True, True, False]),
        meta=SimpleNamespace(n_cells=4, bounds_um=(0.0, 0.0, 800.0, 500.0)),
        group=lambda _key: Groups(("B", "T"), np.array([0, 1, -1, 1], np.int32)),
        gene_column=column,
    )


def colours_at(picture, xy_um):
    """Look the picture up at places of the tissue, as a browser stretches it over its bounds."""
    pixels = imagecodecs.png_decode(picture.png)
    x0, y0, x1, y1 = picture.bounds_um
    share = (xy_um - (x0, y0)) / (x1 - x0, y1 - y0)
    column, row = (share * (pixels.shape[1], pixels.shape[0])).astype(int).T
    return pixels[row, column]


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_each_cell_has_its_groups_colour_where_it_lies(slide):
    picture = cell_picture(slide, "group:cell_type", 400)
    b, t = group_colours(2)
    found = colours_at(picture, XY_UM).tolist()
    assert found[:3] == [rgb(b), rgb(t), rgb(UNASSIGNED)]
    faint = 255 - 0.3 * (255 - np.array(rgb(t)))
    np.testing.assert_allclose(found[3], faint, atol=0.5)
    assert picture.legend == (("B", b), ("T", t))
    # Between the cells there is nothing, and a picture is as stretched as the tissue.
    assert (colours_at(picture, XY_UM + 30) == 255).all()
    height, width, _ = imagecodecs.png_decode(picture.png).shape
    x0, y0, x1, y1 = picture.bounds_um
    assert (x1 - x0) / width == pytest.approx((y1 - y0) / height)


def test_a_gene_is_darker_where_there_is_more_of_it(slide):
    found = colours_at(cell_picture(slide, "gene:CD3E", 400), XY_UM).astype(int)
    none, one, five = found[:3].sum(axis=1)
    assert none > one > five
    plain = colours_at(cell_picture(slide, "none", 400), XY_UM)
    assert (plain[0] == plain[1]).all()


def test_overlapping_cells_show_the_one_with_more_transcripts(slide):
    slide.xy_um = np.tile(XY_UM[:1], (4, 1))
    slide.passes_qc = np.ones(4, np.bool_)
    (top,) = colours_at(cell_picture(slide, "gene:CD3E", 400), XY_UM[:1])
    slide.xy_um = XY_UM
    assert (top == colours_at(cell_picture(slide, "gene:CD3E", 400), XY_UM)[2]).all()


def test_cells_that_are_not_picked_are_grey_and_below(slide):
    picks = np.array([True, False, False, False])
    b, t = group_colours(2)
    picture = cell_picture(slide, "group:cell_type", 400, picked=picks)
    found = colours_at(picture, XY_UM).tolist()
    assert found[:3] == [rgb(b), rgb(UNASSIGNED), rgb(UNASSIGNED)]
    assert picture.legend == (("B", b), ("T", t), (REST, UNASSIGNED))
    slide.xy_um = np.tile(XY_UM[:1], (4, 1))
    (top,) = colours_at(
        cell_picture(slide, "group:cell_type", 400, picked=picks), XY_UM[:1]
    ).tolist()
    assert top == rgb(b)


def test_some_cells_are_drawn_at_other_places(slide):
    xy = np.array([[0.0, 100.0], [90.0, 0.0]])
    places = Places(np.array([1, 0]), xy, 3.0)
    picture = cell_picture(slide, "group:cell_type", 400, places=places)
    b, t = group_colours(2)
    assert colours_at(picture, xy).tolist() == [rgb(t), rgb(b)]
    x0, y0, x1, y1 = picture.bounds_um
    assert (x0 < 0, 90 < x1 < 100, y0 < 0, y1 > 100) == (True,) * 4
    white = (imagecodecs.png_decode(picture.png) == 255).all(axis=2)
    # Two discs of 3 / 100 of the longer side, and nothing else.
    assert (~white).sum() < 400


@pytest.mark.parametrize("colour", ["gene:NOPE", "score:x", ""])
def test_what_cells_cannot_be_coloured_by_is_an_error(slide, colour):
    with pytest.raises(SpatialFormerError):
        cell_picture(slide, colour, 100)


@pytest.mark.parametrize("colour", ["value:n_transcripts", "pair:GENE0,MARK"])
def test_the_picture_has_the_colours_of_the_viewer(services, colour):
    picture = cell_picture(services.slide("tiny"), colour)
    shades = {name: tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for name, c in picture.legend}
    pixels = {tuple(p) for p in imagecodecs.png_decode(picture.png).reshape(-1, 3).tolist()}
    if colour.startswith("pair"):
        # Every cell has GENE0; those of type A that pass have MARK as well.
        assert shades["GENE0 only"] in pixels
        assert shades["both"] in pixels
        assert shades["neither"] not in pixels
    else:
        assert len(pixels & set(shades.values())) >= 1


def test_a_colour_that_is_none_is_refused(services):
    for colour in ("pair:GENE0", "value:xy", "result:nope/cluster", "what"):
        with pytest.raises(SpatialFormerError):
            cell_picture(services.slide("tiny"), colour)


def test_values_are_drawn_above_the_others(services):
    import imagecodecs
    import numpy as np

    from spatialformer_core.service.picture import value_picture

    slide = services.slide("tiny")
    values = np.zeros(slide.meta.n_cells)
    values[[23, 37]] = 1
    found = value_picture(slide, values, 1.0, 400)
    pixels = imagecodecs.png_decode(found.png)
    x0, y0, x1, _ = found.bounds_um
    step = (x1 - x0) / pixels.shape[1]
    at = ((np.asarray(slide.xy_um) - (x0, y0)) / step).astype(int)
    assert (pixels[0, 0] == 255).all()
    dark = pixels[at[:, 1], at[:, 0]].sum(axis=1) < 300
    assert np.flatnonzero(dark).tolist() == [23, 37]
    assert found.legend[-1][0] == "1 or more"


def test_pictures_of_a_pair_share_one_scale_of_colours(services):
    import numpy as np
    import pandas as pd

    from spatialformer_core.service.pair_cells import LEFT, pair_picture

    slide = services.slide("tiny")
    rows = np.arange(slide.meta.n_cells)
    here = pd.DataFrame({"slide_id": "tiny", "row": rows, LEFT: rows % 3})
    there = here.assign(slide_id="another", **{LEFT: 9 * (rows % 3)})
    alone, beside = (
        pair_picture(slide, cells, LEFT).legend[-1][0] for cells in (here, pd.concat([here, there]))
    )
    assert (alone, beside) == ("2 or more", "18 or more")
