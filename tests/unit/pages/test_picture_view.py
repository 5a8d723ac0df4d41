"""The plain picture: Plotly's lasso becomes the same region as the viewer's."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from pages.ui import charts
from pages.ui.picture_view import ring_of

RING = [[5, 5], [95, 5], [95, 45], [5, 45]]


def chart(**selection):
    return {"selection": {"points": [], "lasso": [], "box": []} | selection}


def lasso(ring):
    return {"xref": "x", "yref": "y", "x": [x for x, _ in ring], "y": [y for _, y in ring]}


def test_lasso_and_box_are_rings():
    assert ring_of(chart(lasso=[lasso(RING)])) == RING
    assert ring_of(chart(box=[{"x": [5, 95], "y": [5, 45]}])) == RING


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        chart(),
        chart(lasso=[{}]),
        chart(lasso=[lasso(RING[:2])]),
        chart(box=[{"x": [1], "y": [2, 3]}]),
    ],
)
def test_no_selection_is_none(given):
    assert ring_of(given) is None


def test_points_that_need_webgl_become_points_that_do_not():
    figure = go.Figure()
    marker = {"color": "#123456", "size": 5}
    figure.add_scattergl(x=[1, 2], y=[3, 4], marker=marker, name="a")
    figure.add_scatter(x=[0], y=[0])
    figure.update_layout(title="kept")
    drawn = charts._without_webgl(figure)
    assert [trace.type for trace in drawn.data] == ["scatter", "scatter"]
    assert drawn.data[0].x == (1, 2)
    assert drawn.data[0].marker.color == "#123456"
    assert drawn.layout.title.text == "kept"
    assert figure.data[0].type == "scattergl"
