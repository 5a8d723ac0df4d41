"""A screen's pairs beside liana's scores: each score by hand, what is skipped, and why."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spatialformer_core.perturbation import liana_ranks as room
from spatialformer_core.perturbation.liana_ranks import ScreenedCells, liana_ranks, reason_without

GENES = tuple(f"G{k}" for k in range(6))


@pytest.fixture
def liana():
    return pytest.importorskip("liana", reason="liana is not installed (extra [baselines])")


def cells(n=80, seed=0) -> ScreenedCells:
    """Left and right cells on a line, side by side; G0 and G1 follow the place together."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2.0, (n, len(GENES)))
    beyond = np.arange(n) >= n // 2
    counts[:, :2] = rng.poisson(np.where(beyond, 9.0, 0.5)[:, None], (n, 2))
    xy = np.column_stack([np.arange(n) * 10.0, np.zeros(n)])
    return ScreenedCells(sparse.csr_matrix(counts), GENES, xy, np.arange(n) % 2 == 0)


def screen(genes=GENES, known=("G0", "G1")) -> pd.DataFrame:
    left, right = (grid.ravel() for grid in np.meshgrid(genes, genes, indexing="ij"))
    n = len(left)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["d_diff", "epsilon"])
    frame["gene_left"], frame["gene_right"] = left, right
    frame["t"], frame["epsilon_t"] = 3 * frame["d_diff"], np.nan
    frame["n_pairs"], frame["rank_left"], frame["rank_right"] = 30, 2.0, 3.0
    frame["is_ligand_receptor"] = pd.array(
        (frame["gene_left"] == known[0]) & (frame["gene_right"] == known[1]), dtype="boolean"
    )
    frame["scope"] = "describes this section only"
    return frame


def normalised(data: ScreenedCells) -> np.ndarray:
    counts = data.counts.toarray().astype(float)
    depth = counts.sum(1)
    return np.log1p(counts / depth[:, None] * np.median(depth))


def test_scores_are_those_of_the_left_gene_in_left_and_the_right_gene_in_right_cells(liana):
    data, table = cells(), screen()
    ranks, facts = liana_ranks(table, data, same_type=False, radius_um=15.0)
    values = normalised(data)
    by_pair = ranks.set_index(["gene_left", "gene_right"])
    for one, other in (("G0", "G3"), ("G3", "G0"), ("G4", "G4")):
        a = values[data.is_left, GENES.index(one)].mean()
        b = values[~data.is_left, GENES.index(other)].mean()
        assert by_pair.loc[(one, other), "cellphonedb"] == pytest.approx((a + b) / 2, rel=1e-4)
    # G0 and G1 rise together along the line; nothing else does.
    assert (
        ranks.nsmallest(4, "rank_moran")[["gene_left", "gene_right"]]
        .isin(["G0", "G1"])
        .all(axis=None)
    )
    assert (facts["cells"], facts["gene_pairs"], facts["known_pairs"]) == (80, 36, 1)
    moran = next(entry for entry in facts["known"] if entry["method"] == "moran")
    assert moran["median_place"] <= 4 / 36


def test_ranks_of_the_screen_go_by_size(liana):
    table = screen()
    ranks, _ = liana_ranks(table, cells(), same_type=False, radius_um=15.0)
    best = ranks.nsmallest(1, "rank_effect").iloc[0]
    top = table.loc[table["d_diff"].abs().idxmax()]
    assert (best.gene_left, best.gene_right) == (top.gene_left, top.gene_right)
    first = table.loc[table["epsilon"].abs().idxmax()]
    assert ranks.iloc[0][["gene_left", "gene_right"]].tolist() == [
        first.gene_left,
        first.gene_right,
    ]


def test_one_type_is_scored_within_itself_and_gene_sets_are_left_out(liana):
    table = screen((*GENES[:3], "A set"))
    data = cells()
    ranks, facts = liana_ranks(table, data, same_type=True, radius_um=15.0)
    assert (len(ranks), facts["left_out"]) == (9, 7)
    values = normalised(data)
    row = ranks.set_index(["gene_left", "gene_right"]).loc[("G0", "G2")]
    assert row["cellphonedb"] == pytest.approx(values[:, [0, 2]].mean(), rel=1e-4)


def test_without_liana_or_with_too_few_cells_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "liana", None)
    assert not room.is_installed()
    assert "[baselines]" in reason_without(cells(), screen(), same_type=False)
    monkeypatch.setattr(room, "is_installed", lambda: True)
    assert reason_without(cells(), screen(), same_type=False) is None
    assert reason_without(cells(8), screen(), same_type=False) == room.TOO_FEW
    assert reason_without(cells(), screen(("A", "B")), same_type=True) == room.TOO_FEW
