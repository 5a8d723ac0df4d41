"""The chord diagram of types that lie together. Plotly draws it; the layout is our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.ui.charts import NEUTRAL
from pages.ui.neighbour_charts import grid

_ARC_POINTS, _RIBBON_POINTS, _GAP = 60, 24, 0.035
_INNER, _OUTER, _LINE = 0.93, 1.0, 0.095


def chord_links(
    pairs: pd.DataFrame, source: str, types: Sequence[str], width: str, limits: tuple[float, float]
) -> pd.DataFrame:
    """Return ``one other size ratio`` of the pairs of types that are drawn, both orders joined.

    Parameters
    ----------
    width
        ``ratio``: observed over expected; ``observed``: number of neighbours.
    limits
        Least observed over expected, and least number of expected neighbours.
    """
    observed, expected = (
        np.nan_to_num(grid(pairs, source, types, name).to_numpy(np.float64))
        for name in ("observed", "expected")
    )
    both = observed + observed.T, expected + expected.T
    joined = np.divide(both[0], both[1], out=np.zeros_like(both[0]), where=both[1] > 0)
    i, j = np.nonzero(np.triu((joined >= limits[0]) & (both[1] / 2 >= limits[1]), k=1))
    size = joined[i, j] if width == "ratio" else both[0][i, j] / 2
    names = np.array(list(types), dtype=object)
    return pd.DataFrame({"one": names[i], "other": names[j], "size": size, "ratio": joined[i, j]})


def chord(links: pd.DataFrame, colours: Mapping[str, str], title: str) -> go.Figure:
    """Return a chord diagram: types around a circle, ribbons between those that lie together.

    Parameters
    ----------
    links
        From `chord_links`.
    colours
        Colour of each type.
    """
    figure = go.Figure()
    sums = pd.concat([links.groupby("one")["size"].sum(), links.groupby("other")["size"].sum()])
    total = sums.groupby(level=0).sum()
    shown = [name for name in colours if name in total.index]
    turn = 2 * np.pi - _GAP * len(shown)
    start, spans = np.pi / 2, {}
    for name in shown:
        end = start - turn * float(total[name]) / float(total.sum())
        spans[name] = (start, end)
        start = end - _GAP
    used = {name: span[0] for name, span in spans.items()}
    per_unit = turn / float(total.sum()) if len(total) else 0.0
    # The widest lie below, so that narrow ones can be seen and pointed at.
    for link in links.sort_values("size", ascending=False).itertuples(index=False):
        ends = []
        for name in (str(link.one), str(link.other)):
            ends.append((used[name], used[name] - per_unit * float(link.size)))
            used[name] = ends[-1][1]
        text = f"<b>{link.one} – {link.other}</b><br>{link.ratio:.2f} × expected"
        _shape(figure, _ribbon(*ends), colours[str(link.one)], 0.5, text)
    for name, span in spans.items():
        _shape(figure, _ring(*span), colours[name], 1.0, f"<b>{name}</b>")
    _labels(figure, spans)
    hidden = {"visible": False, "fixedrange": True}
    figure.update_layout(
        height=430,
        margin={"l": 0, "r": 0, "t": 34, "b": 0},
        title={"text": title, "x": 0.5, "font": {"size": 14}},
        showlegend=False,
        hovermode="closest",
        xaxis=hidden | {"range": [-2.0, 2.0]},
        yaxis=hidden | {"range": [-1.12, 1.12], "scaleanchor": "x"},
    )
    return figure


def _at(radius: float, angle: np.ndarray) -> np.ndarray:
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _curve(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return a quadratic curve between two points of the circle, bent towards its centre."""
    t = np.linspace(0, 1, _RIBBON_POINTS)[:, None]
    bent: np.ndarray = (1 - t) ** 2 * start + t**2 * end
    return bent


def _ribbon(one: tuple[float, float], other: tuple[float, float]) -> np.ndarray:
    first, second = (_at(_INNER, np.linspace(*ends, _RIBBON_POINTS)) for ends in (one, other))
    parts = [first, _curve(first[-1], second[0]), second, _curve(second[-1], first[0])]
    return np.concatenate(parts)


def _ring(start: float, end: float) -> np.ndarray:
    angle = np.linspace(start, end, _ARC_POINTS)
    return np.concatenate([_at(_OUTER, angle), _at(_INNER, angle[::-1])])


def _shape(figure: go.Figure, ring: np.ndarray, colour: str, opacity: float, text: str) -> None:
    figure.add_scatter(
        x=ring[:, 0],
        y=ring[:, 1],
        mode="lines",
        fill="toself",
        fillcolor=colour,
        opacity=opacity,
        line={"width": 0.5, "color": colour},
        hoveron="fills",
        hoverinfo="text",
        text=text,
        name="",
    )


def _labels(figure: go.Figure, spans: Mapping[str, tuple[float, float]]) -> None:
    """Write the names beside the circle, pushed apart where arcs are narrow."""
    middle = {name: (span[0] + span[1]) / 2 for name, span in spans.items()}
    for side in (1, -1):
        names = [name for name, angle in middle.items() if (np.cos(angle) >= 0) == (side > 0)]
        names.sort(key=lambda name: np.sin(middle[name]))
        heights = _apart([float(np.sin(middle[name])) for name in names], _LINE)
        for name, y in zip(names, heights, strict=True):
            edge = _at(_OUTER, np.array([middle[name]]))[0]
            x = side * max(1.08, abs(edge[0]) + 0.05)
            line = {"width": 0.8, "color": NEUTRAL}
            figure.add_scatter(
                x=[edge[0], x], y=[edge[1], y], mode="lines", line=line, hoverinfo="skip"
            )
            figure.add_annotation(
                x=x + side * 0.02,
                y=y,
                text=name.replace("_", " "),
                showarrow=False,
                xanchor="left" if side > 0 else "right",
                font={"size": 11},
            )


def _apart(values: Sequence[float], least: float) -> list[float]:
    """Return ascending values moved as little as needed to lie ``least`` apart."""
    found = np.asarray(values, np.float64)
    for _ in range(200):
        short = least - np.diff(found)
        push = np.where(short > 1e-6, short / 2, 0.0)
        if not push.any():
            break
        found[:-1] -= push
        found[1:] += push
    return [float(value) for value in found]
