"""The plain picture: Plotly's lasso becomes the same region as the viewer's."""

from __future__ import annotations

import pytest

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
