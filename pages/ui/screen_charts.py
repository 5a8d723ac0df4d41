"""The figures of a screen beside its volcano. Plotly, themed by Streamlit, SVG from their menu."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.charts import DIVERGING, DOWN, FAILED, LEGEND, NEUTRAL, UP, layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spatialformer_core.service.screen_examples import ExampleCell, ExamplePair

_GENES, _EDGES, _ROW_PX = 30, 40, 17
_BAR_UM = 5.0
_COLUMNS = 3
FIRST, SECOND = UP, DOWN
"""Colours of the left and of the right gene."""


def heatmap(table: pd.DataFrame, column: str, name: str) -> go.Figure:
    """Return the genes with the strongest values, first cell's genes by second cell's.

    Parameters
    ----------
    table
        A screen's table.
    column
        What is shown, a difference of logits.
    name
        Its name.
    """
    strong = table[column].abs()
    axes = [
        strong.groupby(table[f"gene_{side}"]).max().nlargest(_GENES).index
        for side in ("left", "right")
    ]
    chosen = table[table["gene_left"].isin(axes[0]) & table["gene_right"].isin(axes[1])]
    grid = chosen.pivot_table(index="gene_left", columns="gene_right", values=column)
    grid = grid.reindex(index=axes[0], columns=axes[1])
    # One pair may be far beyond all others; it shall not make them all pale.
    reach = float(np.nanpercentile(np.abs(grid.to_numpy()), 98)) if len(chosen) else 1.0
    reach = reach or float(np.nanmax(np.abs(grid.to_numpy()), initial=0.0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=[str(gene) for gene in grid.columns],
            y=[str(gene) for gene in grid.index],
            colorscale=DIVERGING,
            zmin=-reach,
            zmax=reach,
            colorbar={
                "title": {"text": f"{name}<br>(logit)", "side": "top"},
                "thickness": 12,
                "nticks": 5,
                "exponentformat": "power",
            },
            hovertemplate="<b>%{y} – %{x}</b><br>%{z:.3g}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", tickangle=-60, automargin=True, showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, showgrid=False)
    return layout(figure, 150 + _ROW_PX * max(len(axes[0]), 14))


def network(table: pd.DataFrame) -> go.Figure:
    """Return the strongest pairs as lines between the genes of the two cells."""
    edges = table.loc[table["epsilon"].abs().nlargest(_EDGES).index]
    names = [sorted(edges[f"gene_{side}"].unique()) for side in ("left", "right")]
    place = [
        {gene: (k + 0.5) / max(len(genes), 1) for k, gene in enumerate(genes)} for genes in names
    ]
    reach = float(edges["epsilon"].abs().max() or 1.0)
    figure = go.Figure()
    named: set[bool] = set()
    for row in edges.itertuples(index=False):
        joint = bool(row.epsilon > 0)
        figure.add_scatter(
            x=[0, 1],
            y=[place[0][row.gene_left], place[1][row.gene_right]],
            mode="lines",
            line={
                "color": UP if joint else DOWN,
                "width": 0.6 + 3 * abs(float(row.epsilon)) / reach,
            },
            opacity=0.6,
            name="joint (interaction > 0)" if joint else "redundant (interaction < 0)",
            legendgroup=str(joint),
            showlegend=joint not in named,
            hoverinfo="skip",
        )
        named.add(joint)
    for x, position, at in ((0, "middle left", 0), (1, "middle right", 1)):
        figure.add_scatter(
            x=[x] * len(names[at]),
            y=list(place[at].values()),
            mode="markers+text",
            text=names[at],
            textposition=position,
            textfont={"size": 11},
            marker={"color": NEUTRAL, "size": 6},
            showlegend=False,
            hoverinfo="text",
        )
    figure.update_xaxes(visible=False, range=[-0.45, 1.45])
    figure.update_yaxes(visible=False, autorange="reversed")
    height = 90 + _ROW_PX * max(*(len(genes) for genes in names), 14)
    return layout(figure, height, legend=LEGEND)


def ranks(table: pd.DataFrame, found: dict[str, float | None]) -> go.Figure:
    """Return the size of each effect against the mean rank of either gene in its cell."""
    figure = go.Figure()
    for side, colour in (("left", FIRST), ("right", SECOND)):
        rho = found.get(side)
        which = "first" if side == "left" else "second"
        figure.add_scattergl(
            x=table[f"rank_{side}"],
            y=table["d_diff"].abs(),
            mode="markers",
            name=f"gene in {which} cell" + ("" if rho is None else f", ρ = {rho:.2f}"),
            marker={"color": colour, "size": 5, "opacity": 0.4},
            customdata=table["gene_left"] + " – " + table["gene_right"],
            hovertemplate="<b>%{customdata}</b><br>rank %{x:.1f}<br>%{y:.3g}<extra></extra>",
        )
    figure.update_xaxes(title={"text": "mean rank of the gene in its cell (1 is highest)"})
    figure.update_yaxes(title={"text": "size of the effect (logit)"}, exponentformat="power")
    return layout(figure, 440, legend=LEGEND)


def pair_map(tissue_um: NDArray[Any], pairs: pd.DataFrame) -> go.Figure:
    """Return where the near and far cell pairs of one slide lie, on its cells.

    Parameters
    ----------
    tissue_um
        Some cells of the slide, shape ``(n, 2)``.
    pairs
        Columns ``side unit x_um y_um``.
    """
    figure = go.Figure()
    figure.add_scattergl(
        x=tissue_um[:, 0],
        y=tissue_um[:, 1],
        mode="markers",
        name="cells",
        marker={"color": FAILED, "size": 2, "opacity": 0.35},
        hoverinfo="skip",
    )
    for side, name, colour in (("far", "compared with", DOWN), ("near", "near pairs", UP)):
        rows = pairs[pairs["side"] == side]
        figure.add_scattergl(
            x=rows["x_um"],
            y=rows["y_um"],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 4, "opacity": 0.75},
            customdata=rows["unit"].astype(str),
            hovertemplate="%{customdata}<br>%{x:.0f}, %{y:.0f} µm<extra>" + name + "</extra>",
        )
    figure.update_xaxes(title={"text": "x (µm)"}, showgrid=False, zeroline=False)
    figure.update_yaxes(
        title={"text": "y (µm)"},
        showgrid=False,
        zeroline=False,
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
    )
    return layout(figure, 480, legend={**LEGEND, "itemsizing": "constant"})


def example_cells(
    pairs: Sequence[ExamplePair], genes: tuple[str, str], types: tuple[str, str]
) -> go.Figure:
    """Return a panel per cell pair: outlines, centres, transcripts of both genes in both cells."""
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    titles = [f"{pair.unit}: {pair.distance_um:.0f} µm apart" for pair in pairs]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=0.09
    )
    for number, pair in enumerate(pairs):
        at = {"row": number // columns + 1, "col": number % columns + 1}
        _cells(figure, pair, types, at, first=number == 0)
        for side, (gene, colour) in enumerate(zip(genes, (FIRST, SECOND), strict=True)):
            parts = [(c.first_um, c.second_um)[side] for c in (pair.left, pair.right)]
            known = [part for part in parts if part is not None]
            places = np.concatenate(known) if known else np.zeros((0, 3))
            figure.add_scatter(
                x=places[:, 0],
                y=places[:, 1],
                mode="markers",
                name=gene,
                legendgroup=f"gene {side}",
                showlegend=number == 0,
                marker={"color": colour, "size": 8, "symbol": ("circle", "diamond")[side]},
                hovertemplate=f"{gene}<br>%{{x:.1f}}, %{{y:.1f}} µm<extra></extra>",
                **at,
            )
        axis = f"x{number + 1 if number else ''}"
        figure.update_yaxes(autorange="reversed", scaleanchor=axis, visible=False, **at)
        figure.update_xaxes(visible=False, constrain="domain", **at)
    figure.update_annotations(font_size=12)
    legend = {**LEGEND, "y": 1.06 if rows > 1 else 1.1}
    return layout(figure, 90 + 310 * rows, legend=legend)


def _cells(
    figure: go.Figure,
    pair: ExamplePair,
    types: tuple[str, str],
    at: dict[str, int],
    *,
    first: bool,
) -> None:
    for cell, name, colour in ((pair.left, types[0], FIRST), (pair.right, types[1], SECOND)):
        corners = _closed(cell)
        figure.add_scatter(
            x=corners[:, 0],
            y=corners[:, 1],
            mode="lines" if len(corners) > 1 else "markers",
            fill="toself" if len(corners) > 1 else None,
            line={"color": colour, "width": 1.2},
            fillcolor=_faint(colour),
            marker={"symbol": "cross-thin-open", "size": 10, "color": colour},
            name=name if name.endswith("cell") else f"{name} cell",
            legendgroup=f"type {name} {colour}",
            showlegend=first,
            hoverinfo="text",
            text=f"{name}, cell {cell.cell_id}",
            **at,
        )
    every = np.concatenate([_closed(pair.left), _closed(pair.right)])
    x, y = every[:, 0].min(), every[:, 1].max() + 2
    figure.add_scatter(
        x=[x, x + _BAR_UM],
        y=[y, y],
        mode="lines",
        line={"color": NEUTRAL, "width": 3},
        name=f"{_BAR_UM:g} µm",
        legendgroup="bar",
        showlegend=first,
        hoverinfo="skip",
        **at,
    )


def _closed(cell: ExampleCell) -> NDArray[Any]:
    if cell.outline_um is None:
        return cell.xy_um[None]
    return np.concatenate([cell.outline_um, cell.outline_um[:1]])


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.10)"


def rank_scatter(ranks_table: pd.DataFrame, one: str, other: str) -> go.Figure:
    """Return two methods' ranks of the same gene pairs; known ligand-receptor pairs stand out."""
    known = ranks_table["is_ligand_receptor"].eq(other=True).fillna(value=False).astype(bool)
    figure = go.Figure()
    groups = ((~known, "gene pairs", NEUTRAL, 4, 0.25), (known, "known pairs", UP, 8, 0.9))
    for mask, name, colour, size, opacity in groups:
        rows = ranks_table[mask]
        if len(rows):
            figure.add_scattergl(
                x=rows[f"rank_{other}"],
                y=rows[f"rank_{one}"],
                mode="markers",
                name=name,
                marker={"color": colour, "size": size, "opacity": opacity},
                customdata=rows["gene_left"] + " – " + rows["gene_right"],
                hovertemplate="<b>%{customdata}</b><br>%{x:.0f}, %{y:.0f}<extra></extra>",
            )
    figure.update_xaxes(title={"text": f"rank by {other} (1 is strongest)"}, autorange="reversed")
    figure.update_yaxes(title={"text": f"rank by {one}"}, autorange="reversed")
    return layout(figure, 420, legend=LEGEND)
