"""What co-occurrence follows from the counts alone, or from where in the cell genes lie.

A gene with many copies has three of them in some community wherever they lie. The null keeps the
positions, the communities and each cell's counts, and permutes which transcript is which gene.
Given the compartment of each transcript (nucleus or cytoplasm), genes change place within their
compartment only: a pair that co-occurs merely since both genes are nuclear is then expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialformer_core.arrays import (
    DoubleArray,
    FloatArray,
    GenePairs,
    IntArray,
    LongArray,
)
from spatialformer_core.cooccurrence import pair_kernels
from spatialformer_core.cooccurrence.pairs import (
    DEFAULT,
    Cooccurrence,
    label_run,
    pairs_of_codes,
)
from spatialformer_core.cooccurrence.runs import Molecules, Part, in_runs
from spatialformer_core.cooccurrence.settings import CooccurrenceSettings
from spatialformer_core.errors import SpatialFormerError

_LEAST_EXPECTED = 5.0
_KEPT_APART = 32

Sums = tuple[LongArray, LongArray, LongArray]
"""Codes of gene pairs, ascending, and two numbers of each, summed over cells."""


@dataclass(frozen=True, slots=True)
class PairNull:
    """Observed co-occurrence beside what permuted labels give.

    Attributes
    ----------
    left, right
        Gene pairs seen in the data or in any permutation, ascending, shape ``(n,)``.
    observed
        Cells in which the pair co-occurs, shape ``(n,)``.
    expected
        The same under permutation, on average, shape ``(n,)``.
    sd
        Standard deviation of that number, cells being independent, shape ``(n,)``.
    z
        ``(observed - expected) / sd``; NaN where the null does not vary or expects fewer than 5
        cells, for which neither its estimate nor the normal approximation is good enough; shape
        ``(n,)``.
    found
        The co-occurrence itself.
    share
        For each of ``found.labels``, in which share of permutations that pair co-occurs in that
        cell too: near 1, the counts alone make it.
    """

    left: IntArray
    right: IntArray
    observed: LongArray
    expected: DoubleArray
    sd: DoubleArray
    z: DoubleArray
    found: Cooccurrence
    share: FloatArray

    @property
    def pairs(self) -> GenePairs:
        """The observed pairs of each cell."""
        return self.found.labels


def permuted_pairs(
    molecules: Molecules,
    settings: CooccurrenceSettings = DEFAULT,
    *,
    n_permutations: int = 100,
    seed: int = 0,
) -> PairNull:
    """Compare co-occurrence with permuted gene labels over fixed positions.

    Communities depend on positions only, so they are found once. With several searches a
    permutation has a pair if most of them find it, as in the data.

    Parameters
    ----------
    molecules
        With ``compartment``, genes change place within it only.
    settings
        How co-occurrence is found.
    n_permutations
        Permutations of each cell, at least 2.
    seed
        Decides the permutations, together with the pattern of each cell's own genes.

    Raises
    ------
    SpatialFormerError
        If values are not valid.
    """
    if n_permutations < 2:
        raise SpatialFormerError(f"{n_permutations} permutations were asked for, 2 is the least.")
    n_genes, job = molecules.n_genes, (settings.min_copies, n_permutations, seed)

    def work(part: Part) -> tuple[pair_kernels.Permuted, Sums]:
        labels = label_run(part.run, n_genes, settings)
        done = pair_kernels.permute_pairs(labels, part.run, part.compartment, n_genes, job)
        times = done.null_times.astype(np.int64)
        sums = _summed([(done.null_codes, times, times * times)])
        nothing = np.zeros(0, np.int64)
        return done._replace(null_codes=nothing, null_times=nothing.astype(np.int32)), sums

    parts: list[pair_kernels.Permuted] = []
    sums: list[Sums] = []
    for part, summed in in_runs(work, molecules, settings.dims):
        parts.append(part)
        # Put together now and then: kept apart, the runs of a large slide take a gigabyte.
        sums = [_summed([*sums, summed])] if len(sums) == _KEPT_APART else [*sums, summed]
    found, times = _observed(parts, settings, n_genes)
    labels = found.labels
    codes = labels.left.astype(np.int64) * n_genes + labels.right
    seen, n_seen = np.unique(codes, return_counts=True)
    nothing = np.zeros_like(seen)
    distinct, total, squares = _summed([*sums, (seen, nothing, nothing)])
    expected = total / n_permutations
    # p is itself estimated from so many draws; the factor makes p (1 - p) unbiased. All sums are
    # of whole numbers, so they do not depend on the order of the cells.
    variance = (total - squares / n_permutations) / (n_permutations - 1)
    sd = np.sqrt(variance)
    observed = np.zeros(len(distinct), np.int64)
    observed[np.searchsorted(distinct, seen)] = n_seen
    z = np.full(len(distinct), np.nan)
    np.divide(observed - expected, sd, out=z, where=(sd > 0) & (expected >= _LEAST_EXPECTED))
    return PairNull(
        left=(distinct // n_genes).astype(np.int32),
        right=(distinct % n_genes).astype(np.int32),
        observed=observed,
        expected=expected,
        sd=sd,
        z=z,
        found=found,
        share=(times / n_permutations).astype(np.float32),
    )


def _observed(
    parts: list[pair_kernels.Permuted], settings: CooccurrenceSettings, n_genes: int
) -> tuple[Cooccurrence, IntArray]:
    """Return the co-occurrence, and the permutations with each pair of its labels."""
    counts = np.concatenate([np.zeros(1, np.int64), *(part.counts for part in parts)])
    codes = np.concatenate([np.zeros(0, np.int64), *(part.codes for part in parts)])
    hits, times = (
        np.concatenate([np.zeros(0, np.int32), *(getattr(part, name) for part in parts)])
        for name in ("hits", "times")
    )
    pairs = pairs_of_codes(np.cumsum(counts), codes, n_genes)
    found = Cooccurrence(settings, pairs, (hits / settings.n_seeds).astype(np.float32))
    return found, times[found.is_label]


def _summed(parts: list[Sums]) -> Sums:
    codes, first, second = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(codes, kind="stable")
    distinct, start = np.unique(codes[order], return_index=True)
    if not len(distinct):
        return distinct, first, second
    return (
        distinct,
        np.add.reduceat(first[order], start),
        np.add.reduceat(second[order], start),
    )
