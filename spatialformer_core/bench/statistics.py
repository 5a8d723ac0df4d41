"""Sums and tests of a screen against a dict of lists, as the published analysis keeps them."""

from __future__ import annotations

import numpy as np

from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, against
from spatialformer_core.bench.timing import best_of
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.contrast import Contrast, contrast
from spatialformer_core.perturbation.engine import Effects
from spatialformer_core.perturbation.plan import GenePairIndex
from spatialformer_core.perturbation.published_test import published_test
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally

LIMIT = 300.0
_GENES, _PER_CELL, _UNITS = 343, 69, 8
_MIN_SUPPORT = 2

Lists = dict[tuple[int, int], list[float]]


def made_up_effects(n: int, seed: int) -> list[Effects]:
    """Return effects of cell pairs of 69 genes each, common genes oftener, as in a lung panel."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, _GENES + 1) ** 0.6
    share /= share.sum()
    rank = np.arange(1.0, _PER_CELL + 1)
    found = []
    for number in range(n):
        left, right = (rng.choice(_GENES, _PER_CELL, replace=False, p=share) for _ in range(2))
        one, other = rng.normal(size=(2, _PER_CELL))
        pair = one[:, None] + other + rng.normal(0, 0.3, (_PER_CELL, _PER_CELL))
        ends = (left.astype(np.int64), right.astype(np.int64), rank, rank)
        found.append(Effects(number, *ends, 0.0, one, other, pair, 0.2 * pair))
    return found


def every_pair() -> GenePairIndex:
    """Return all gene pairs of the panel."""
    gene = np.arange(_GENES, dtype=np.int32)
    slot = np.arange(_GENES**2, dtype=np.int32).reshape(_GENES, _GENES)
    n_units = np.full(_GENES**2, _UNITS)
    return GenePairIndex(np.repeat(gene, _GENES), np.tile(gene, _GENES), slot, n_units)


def pooled(effects: list[Effects]) -> Lists:
    """Return every effect of every gene pair in a list of its own, both directions together."""
    lists: Lists = {}
    for one in effects:
        for i, left in enumerate(one.left):
            for j, right in enumerate(one.right):
                key, back = (left, right), (right, left)
                lists.setdefault(back if back in lists else key, []).append(one.d_pair[i, j])
    return lists


def tested(lists: Lists, keys: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return mean and p of some gene pairs, one scipy test each."""
    from scipy import stats

    return [
        (
            float(np.mean(lists[key])),
            float(stats.ttest_1samp(lists[key], 0, alternative="less").pvalue),
        )
        for key in keys
    ]


def statistics(options: BenchOptions) -> list[Row]:
    """Time all that a screen's table needs of its effects: sums and both tests."""
    n = max(options.scaled(1_000), 32)
    effects = made_up_effects(n, options.seed)
    index = every_pair()
    few = effects[: max(options.scaled(60), 16)]
    _check(index, few)

    def ours() -> tuple[Contrast, Contrast]:
        tally = Tally(index, _UNITS)
        for k, one in enumerate(effects):
            tally.add(one, NEAR if k % 2 else FAR, k * _UNITS // n)
        return contrast(tally, "d", with_p=True), contrast(tally, "epsilon", with_p=True)

    ours()
    mine = best_of(ours, options.rounds)
    gathered = best_of(lambda: pooled(few), options.rounds) / len(few) * n
    lists = pooled(few)
    keys = [key for key, values in lists.items() if len(values) >= _MIN_SUPPORT]
    sample = keys[: max(options.scaled(1_500), 50)]
    per_test = best_of(lambda: tested(lists, sample), options.rounds) / len(sample)
    seen = np.zeros((_GENES, _GENES), np.int64)
    for one in effects:
        seen[np.ix_(one.left, one.right)] += 1
    unordered = np.triu(seen + np.tril(seen, -1).T)
    testing = per_test * float((unordered >= _MIN_SUPPORT).sum())
    return [
        against(
            "screen",
            "statistics",
            (mine, gathered + testing),
            reference_is=f"dict of lists (measured on {len(few)} of {n} cell pairs) and one "
            f"scipy test per gene pair (measured on {len(sample)}), d alone; ours: d and epsilon, "
            "sums per unit, moderated tests, q",
            limit=LIMIT,
        ),
        against(
            "screen",
            "statistics_sums",
            (best_of(lambda: _sums(index, effects), options.rounds), gathered),
            reference_is="dict of lists alone",
            limit=None,
        ),
    ]


def _sums(index: GenePairIndex, effects: list[Effects]) -> Tally:
    tally = Tally(index, 1)
    for one in effects:
        tally.add(one, NEAR, 0)
    return tally


def _check(index: GenePairIndex, effects: list[Effects]) -> None:
    """Show that our sums give the published test of the same effects."""
    found, _ = published_test(_sums(index, effects))
    lists = pooled(effects)
    keys = [key for key, values in lists.items() if len(values) >= _MIN_SUPPORT][:50]
    slots = [int(index.slot[key]) for key in keys]
    own = np.column_stack([found.mean[slots], found.p[slots]])
    if not np.allclose(own, tested(lists, keys), rtol=1e-6, atol=1e-9):
        raise SpatialFormerError(
            "Ours and the reference disagree on a test; a time would compare nothing.",
            where="bench",
        )
