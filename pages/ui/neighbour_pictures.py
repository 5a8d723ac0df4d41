"""Which types lie together: heat maps, chord diagrams and figures by type, model beside tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, charts, choices, neighbour_charts, neighbour_chord
from pages.ui.neighbour_charts import MODEL, NAMES, TRUE, WEIGHTED
from pages.ui.session import services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.palette import UNASSIGNED, group_colours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service.colocalise import ColocalisationView

_HEAT, _CHORD, _BY_TYPE = "Heat maps", "Chord diagrams", "By type"
_MIN_QUERIES = 10
_METRICS = {
    "recall": "Share of the true neighbours of cells of the type that are among the predicted.",
    "recall_as_neighbour": "Share of the true neighbours that are of the type, found by any cell.",
    "jsd": "How far the types of the predicted neighbours lie from those of the true ones, mean "
    "over cells: 0 equal, 0.833 nothing in common; lower is better.",
    "jsd_of_type": "The same for the neighbours of all cells of the type taken together.",
}
_METRIC_NAMES = {
    "recall": "recall (share of true neighbours)",
    "recall_as_neighbour": "recall as neighbour (share of true neighbours)",
    "jsd": "JSD around a cell (0–0.833)",
    "jsd_of_type": "JSD of the pooled neighbours (0–0.833)",
}
_WIDTHS = {"ratio": "times expected", "observed": "number of neighbours"}


def known(info: dict[str, Any]) -> list[str]:
    """Return the pictures that a result has."""
    return [_HEAT, _CHORD, *([_BY_TYPE] if info["has_truth"] else [])]


def type_colours(view: ColocalisationView) -> dict[str, str]:
    """Return the colour of each type: that of the viewer where the slide is still here."""
    names = [str(name) for name in view.pairs["type"].unique()]
    slide_id = view.info["request"].get("slide_id")
    categories: Sequence[str] = names
    if slide_id:
        try:
            categories = services().slide(slide_id).group(view.info["groupby"]).categories
        except SpatialFormerError:
            categories = names  # the slide was removed since; the result stays readable
    palette = dict(zip(categories, group_colours(len(categories)), strict=True))
    return {name: palette.get(name, UNASSIGNED) for name in names}


def view(result: ColocalisationView, scope: str, kind: str, key: str) -> None:
    """Draw one of the pictures of `known`."""
    pairs = result.pairs[result.pairs["candidates"] == scope]
    left, right = st.columns(2, gap="medium")
    with left:
        methods = _methods(result.info, kind, key)
    if kind == _BY_TYPE:
        with right:
            metric = _metric(key)
        rows = result.types[result.types["candidates"] == scope]
        _draw_by_type(rows, metric, methods, key)
        return
    with right:
        types = _types(pairs, key)
    if kind == _HEAT:
        _draw_heatmaps(result.info, pairs, methods, types, key)
    else:
        _draw_chords(result, pairs, methods, types, key)


def _methods(info: dict[str, Any], kind: str, key: str) -> list[str]:
    """Draw the choice of the answers that are shown; the model and the prior come first."""
    every = list(info["methods"])
    trivial = ("type_pair_prior_weighted", "expression_cosine", "type_frequency")
    prior = next((method for method in trivial if method in every), every[-1])
    first = [MODEL, WEIGHTED, prior] if kind == _BY_TYPE else [WEIGHTED, prior]
    if kind == _CHORD:
        first = [WEIGHTED]
    chosen = st.multiselect(
        "Answers beside the tissue" if info["has_truth"] else "Answers",
        every,
        default=first,
        format_func=lambda method: NAMES.get(method, method),
        key=f"neighbours-methods-{kind}-{key}",
        help="Best: the best candidates of each cell. Weighted: all candidates in proportion to "
        "their score. Type pairs: what other blocks of this slide say of these two types, with no "
        "model. Similar expression: cosine of log counts. Type frequency: chance.",
    )
    return chosen or first


def _types(pairs: pd.DataFrame, key: str) -> list[str]:
    every = [str(name) for name in pairs["type"].unique()]
    asked = pairs.groupby("type")["n_queries"].first()
    common = [name for name in every if asked.get(name, 0) >= _MIN_QUERIES]
    chosen = st.multiselect(
        "Types shown",
        every,
        default=common if 0 < len(common) < len(every) else [],
        key=f"neighbours-shown-{key}",
        placeholder="All types",
        help=f"Types with fewer than {_MIN_QUERIES} query cells are left out at first.",
    )
    return chosen or every


def _metric(key: str) -> str:
    chosen: str = choices.one_of(st, "Figure", _METRIC_NAMES, key=f"neighbours-metric-{key}")
    return chosen


def _draw_heatmaps(
    info: dict[str, Any], pairs: pd.DataFrame, methods: list[str], types: list[str], key: str
) -> None:
    sources = [*([TRUE] if info["has_truth"] else []), *methods]
    least = float(
        st.slider(
            "Fewest expected neighbours",
            0,
            100,
            20,
            5,
            key=f"neighbours-least-{key}",
            width=320,
            help="Pairs of types with fewer stay blank: too few to tell.",
        )
    )
    figure = neighbour_charts.heatmaps(pairs, sources, types, least)
    name = f"neighbours-heatmaps-{key}"
    charts.draw(figure, name, name, "Observed over expected neighbours by pair of types")
    st.caption(
        "Rows ask, columns are their neighbours. Orange: more often neighbours than cells drawn "
        "at random from the candidates would be; blue: less often."
    )


def _draw_chords(
    result: ColocalisationView,
    pairs: pd.DataFrame,
    methods: list[str],
    types: list[str],
    key: str,
) -> None:
    one, two = st.columns(2, gap="medium")
    width = one.segmented_control(
        "Width of a ribbon",
        list(_WIDTHS),
        format_func=_WIDTHS.__getitem__,
        default="ratio",
        required=True,
        key=f"neighbours-width-{key}",
    )
    least = two.slider(
        "Drawn from (times expected)",
        0.5,
        8.0,
        1.5,
        0.5,
        key=f"neighbours-ratio-{key}",
        help="Pairs of different types that are neighbours at least so many times as often as "
        "expected, with 20 expected neighbours or more.",
    )
    colours = {name: c for name, c in type_colours(result).items() if name in types}
    sources = [*([TRUE] if result.info["has_truth"] else []), *methods]
    columns = st.columns(max(2, min(3, len(sources))), gap="small")
    for place, source in enumerate(sources):
        with columns[place % len(columns)]:
            links = neighbour_chord.chord_links(
                pairs, source, types, str(width), (float(least), 20.0)
            )
            title = NAMES.get(source, source)
            if not len(links):
                cards.empty(
                    f"No pair · {title}", "Lower the limit, or show more types.", "donut_large"
                )
                continue
            figure = neighbour_chord.chord(links, colours, title)
            name = f"neighbours-chord-{source}-{key}"
            charts.draw(figure, name, name, f"Types that lie together: {title}")


def _draw_by_type(rows: pd.DataFrame, metric: str, methods: list[str], key: str) -> None:
    figure = neighbour_charts.by_type(rows, metric, _METRIC_NAMES[metric], methods)
    name = f"neighbours-{metric}-{key}"
    charts.draw(figure, name, name, f"{metric} by type")
    st.caption(
        f"{_METRICS[metric]} Bars: 95 % interval of the first answer, blocks of tissue resampled."
    )
