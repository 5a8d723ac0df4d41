"""The published test of gene pairs, for comparison only.

It pools the effects of a gene pair over cell pairs, both directions together, and asks whether
their mean is below 0. A deterministic network has an effect for every gene, so this asks about
the network and not about tissue; cell pairs that share cells count as independent; pairs are then
kept by p, support and sign, and only the survivors are adjusted, which adjusts nothing. Here all
tested pairs are adjusted; how many the published filter would keep is told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.perturbation.tally import NEAR, Tally
from spatialformer_core.stats import benjamini_hochberg

MIN_SUPPORT = 50
ALPHA = 0.05

MARK = (
    "PUBLISHED TEST: p-values ask whether the network's output falls when a gene pair is taken "
    "out, cell pairs counted as independent; they say nothing about tissue."
)


@dataclass(frozen=True, slots=True)
class PublishedTest:
    """One test per tested gene pair; both directions of a pair share one, shape ``(n_slots,)``.

    Attributes
    ----------
    mean, low, high
        Mean d over near cell pairs that carry both genes, with its 95 % interval.
    t, df, p, q
        One-sided test of a mean below 0; NaN below two cell pairs. ``q`` over all tested pairs.
    support
        Cell pairs.
    """

    mean: DoubleArray
    low: DoubleArray
    high: DoubleArray
    t: DoubleArray
    df: DoubleArray
    p: DoubleArray
    q: DoubleArray
    support: LongArray

    def facts(self, tested: LongArray) -> dict[str, Any]:
        """Return how many pairs the published filter keeps, ``tested`` naming each pair once."""
        p, n, mean = self.p[tested], self.support[tested], self.mean[tested]
        kept = (p < ALPHA) & (n > MIN_SUPPORT) & (mean < 0)
        return {
            "tested": len(tested),
            "kept_by_published_filter": int(kept.sum()),
            "filter": f"p < {ALPHA}, more than {MIN_SUPPORT} cell pairs, mean below 0",
            "significant_over_all_tests": int((self.q[tested] < ALPHA).sum()),
        }


def published_test(tally: Tally) -> tuple[PublishedTest, LongArray]:
    """Return the published test of each gene pair, and one slot of each unordered pair.

    Parameters
    ----------
    tally
        The sums of a screen; far pairs and units play no part.
    """
    index = tally.index
    low = np.minimum(index.left, index.right).astype(np.int64)
    high = np.maximum(index.left, index.right).astype(np.int64)
    _, first, pair = np.unique(
        low * (index.slot.shape[0] + 1) + high, return_index=True, return_inverse=True
    )
    n = np.bincount(pair, tally.count[NEAR].sum(axis=0))
    total = np.bincount(pair, tally.total("d")[NEAR].sum(axis=0))
    square = np.bincount(pair, tally.square("d")[NEAR].sum(axis=0))
    nan = np.full(len(n), np.nan)
    mean = np.divide(total, n, out=nan.copy(), where=n > 0)
    df = np.where(n > 1, n - 1, np.nan)
    # Sums of squares lose their last digits where all values are equal.
    spread = np.maximum(square - n * np.nan_to_num(mean) ** 2, 0.0)
    variance = np.where(spread > 1e-12 * np.maximum(square, 1e-300), spread, 0.0) / df
    error = np.sqrt(variance / np.maximum(n, 1))
    t = np.divide(mean, error, out=nan.copy(), where=error > 0)
    p = np.asarray(special.stdtr(df, t), np.float64)
    reach = special.stdtrit(np.nan_to_num(df, nan=1.0), 0.975) * error
    q = benjamini_hochberg(p)
    found = PublishedTest(
        mean=mean[pair],
        low=(mean - reach)[pair],
        high=(mean + reach)[pair],
        t=t[pair],
        df=df[pair],
        p=p[pair],
        q=q[pair],
        support=n[pair].astype(np.int64),
    )
    return found, np.asarray(first, np.int64)
