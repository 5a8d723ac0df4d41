"""What the figures of a screen show, read back from the artists and from the SVG."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialformer_core import pl
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import ScreenResult


def result(scope="describes this section only", *, with_p=True) -> ScreenResult:
    rng = np.random.default_rng(0)
    n = 400
    table = pd.DataFrame(
        {
            "gene_left": [f"L{k // 20:02d}" for k in range(n)],
            "gene_right": [f"R{k % 20:02d}" for k in range(n)],
            "d_diff": rng.normal(0, 0.1, n),
            "epsilon": rng.normal(0, 0.1, n),
            "q": np.full(n, 0.8) if with_p else np.full(n, np.nan),
            "epsilon_q": np.full(n, 0.8) if with_p else np.full(n, np.nan),
            "rank_left": np.arange(n) / 10,
            "rank_right": np.arange(n) / 20,
            "spillover": pd.array([k == 7 for k in range(n)], dtype="boolean"),
        }
    )
    table.loc[3, ["d_diff", "epsilon"]] = -2.0, 1.5
    table.loc[7, ["d_diff", "epsilon"]] = -3.0, 9.0
    if with_p:
        table.loc[[3, 7], ["q", "epsilon_q"]] = 1e-4
    pairs = pd.DataFrame(
        {
            "slide_id": "run7",
            "side": ["near"] * 5 + ["far"] * 7,
            "x_um": np.arange(12.0),
            "y_um": np.arange(12.0),
        }
    )
    info = {
        "scope": scope,
        "marks": ["SIMULATED CHECKPOINT: nothing here is a finding."],
        "no_p_reason": None if with_p else "Two units.",
        "request": {"group_left": "Macrophage", "group_right": "T cell"},
        "effect_against_rank": {"effect": {"left": -0.25, "right": None}},
    }
    return ScreenResult(table, info, pairs)


def test_every_figure_says_how_far_it_reaches(tmp_path):
    figures = pl.screen_figures(result())
    assert list(figures) == ["volcano", "heatmap", "network", "ranks", "map"]
    for figure in figures.values():
        assert "This describes this section only." in figure.get_supxlabel()
        assert "SIMULATED CHECKPOINT" in figure.get_supxlabel()
    pl.save(figures["map"], tmp_path / "map.svg")
    assert "This describes this section only." in (tmp_path / "map.svg").read_text("utf-8")


def test_equal_figures_give_equal_files(tmp_path):
    for name in ("one", "other"):
        pl.save(pl.screen_ranks(result()), tmp_path / f"{name}.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_the_volcano_colours_what_is_significant_and_hides_spillover():
    figure = pl.screen_volcano(result())
    plain, called = figure.axes[0].collections
    assert len(plain.get_offsets()) == 398
    np.testing.assert_allclose(called.get_offsets(), [[-2.0, 4.0]])
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert "L00-R03" in labels
    assert "L00-R07" not in labels
    without = pl.screen_volcano(result(with_p=False))
    assert "no p-values" in without.axes[0].get_ylabel()
    assert without.axes[0].collections[0].get_offsets()[:, 1].max() == pytest.approx(1.5)


def test_the_heatmap_holds_the_interactions():
    axes = pl.screen_heatmap(result()).axes[0]
    grid = np.asarray(axes.images[0].get_array())
    rows = [text.get_text() for text in axes.get_yticklabels()]
    columns = [text.get_text() for text in axes.get_xticklabels()]
    assert grid.shape == (20, 20)
    assert rows[0] == "L00"
    assert grid[0, columns.index("R03")] == 1.5
    assert np.isnan(np.ma.filled(axes.images[0].get_array().astype(float), np.nan)).sum() == 1


def test_the_network_joins_significant_pairs_or_says_that_there_are_none():
    figure = pl.screen_network(result())
    assert len(figure.axes[0].lines) == 1
    assert {text.get_text() for text in figure.axes[0].texts} == {"L00", "R03"}
    plain = pl.screen_network(result(with_p=False))
    assert len(plain.axes[0].lines) == 40
    assert "no pair is significant" in plain.axes[0].get_title(loc="left")


def test_the_map_shows_each_cell_pair_where_it_lies():
    axes = pl.screen_map(result()).axes[0]
    far, near = axes.collections
    assert (len(far.get_offsets()), len(near.get_offsets())) == (7, 5)
    assert axes.yaxis_inverted()


def test_several_donors_are_counted_and_formats_are_checked(tmp_path):
    figure = pl.screen_ranks(result(scope="4 donors"))
    assert "4 donors." in figure.get_supxlabel()
    assert "rho -0.25" in figure.axes[0].get_legend().get_texts()[0].get_text()
    pl.save(figure, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SpatialFormerError, match="bmp"):
        pl.save(figure, tmp_path / "ranks.bmp")
