"""Numba kernels of gene pairs: which genes share a community, also under permuted labels.

A file of its own for the same reason as `kernels`; see there.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from spatialformer_core.arrays import BoolArray, FloatArray, IntArray, LongArray
from spatialformer_core.cooccurrence.kernels import Run

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@nb.njit(cache=True, nogil=True)
def _frequent(members: IntArray, min_copies: int, copies: IntArray, kept: IntArray) -> int:
    """Write the genes with enough copies; ``copies`` comes and goes as zeros."""
    n = 0
    for gene in members:
        copies[gene] += 1
        if copies[gene] == min_copies:
            kept[n] = gene
            n += 1
    for gene in members:
        copies[gene] = 0
    return n


@nb.njit(cache=True, nogil=True)
def can_pair(run: Run, n_genes: int, min_copies: int) -> BoolArray:
    """Tell which cells have two genes with enough copies; in the others no pair can be."""
    n_cells = len(run.indptr) - 1
    able, copies = np.zeros(n_cells, np.bool_), np.zeros(n_genes, np.int32)
    for cell in range(n_cells):
        members = run.gene[run.indptr[cell] : run.indptr[cell + 1]]
        kept = np.empty(len(members), np.int32)
        able[cell] = _frequent(members, min_copies, copies, kept) >= 2
    return able


@nb.njit(cache=True, nogil=True)
def _distinct(codes: LongArray) -> int:
    """Sort, move the distinct values to the front, return how many there are."""
    codes.sort()
    n = 0
    for k in range(len(codes)):
        if n == 0 or codes[k] != codes[n - 1]:
            codes[n] = codes[k]
            n += 1
    return n


@nb.njit(cache=True, nogil=True)
def _emit(
    gene: IntArray, bounds: LongArray, min_copies: int, copies: IntArray, codes: LongArray
) -> int:
    """Write the distinct pairs of one cell, whose genes come grouped by community.

    Returns how many there are; with too short a buffer, minus the length that is needed.
    """
    n = 0
    kept = np.empty(len(gene), np.int32)
    for c in range(len(bounds) - 1):
        n_kept = _frequent(gene[bounds[c] : bounds[c + 1]], min_copies, copies, kept)
        for a in range(n_kept):
            for b in range(a + 1, n_kept):
                if n < len(codes):
                    low, high = min(kept[a], kept[b]), max(kept[a], kept[b])
                    codes[n] = np.int64(low) * len(copies) + high
                n += 1
    return _distinct(codes[:n]) if n <= len(codes) else -n


@nb.njit(cache=True, nogil=True)
def _by_community(label: IntArray, gene: IntArray) -> tuple[IntArray, LongArray]:
    """Return a cell's genes grouped by community and where each community begins."""
    n_communities = 0
    for i in range(len(label)):
        n_communities = max(n_communities, label[i] + 1)
    bounds = np.zeros(n_communities + 1, np.int64)
    for i in range(len(label)):
        if label[i] >= 0:
            bounds[label[i] + 1] += 1
    for c in range(n_communities):
        bounds[c + 1] += bounds[c]
    grouped, at = np.empty(bounds[-1], np.int32), bounds[:-1].copy()
    for i in range(len(label)):
        if label[i] >= 0:
            grouped[at[label[i]]] = gene[i]
            at[label[i]] += 1
    return grouped, bounds


@nb.njit(cache=True, nogil=True)
def find_pairs(
    labels: IntArray, run: Run, n_genes: int, min_copies: int
) -> tuple[LongArray, LongArray]:
    """Return the number of pairs of each cell and their codes ``left * n_genes + right``."""
    n_cells = len(run.indptr) - 1
    counts, copies = np.zeros(n_cells, np.int64), np.zeros(n_genes, np.int32)
    codes, k = np.empty(1 << 12, np.int64), 0
    for cell in range(n_cells):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        grouped, bounds = _by_community(labels[start:stop], run.gene[start:stop])
        found = _emit(grouped, bounds, min_copies, copies, codes[k:])
        if found < 0:
            grown = np.empty(2 * (k - found), np.int64)
            grown[:k] = codes[:k]
            codes = grown
            found = _emit(grouped, bounds, min_copies, copies, codes[k:])
        counts[cell] = found
        k += found
    return counts, codes[:k]


@nb.njit(cache=True, nogil=True)
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@nb.njit(cache=True, nogil=True)
def _shuffle(values: IntArray, state: np.uint64) -> np.uint64:
    for i in range(len(values) - 1, 0, -1):
        state += _GOLDEN
        j = np.int64(((_mix(state) >> np.uint64(32)) * np.uint64(i + 1)) >> np.uint64(32))
        values[i], values[j] = values[j], values[i]
    return state


@nb.njit(cache=True, nogil=True)
def permute_pairs(
    labels: IntArray, run: Run, n_genes: int, min_copies: int, job: tuple[int, int]
) -> tuple[LongArray, LongArray, FloatArray]:
    """Return for each cell the pairs seen in any permutation and the share of permutations.

    ``job``: number of permutations, seed. A cell's stream begins at a number made of its own
    genes, so that it does not depend on which other cells there are.
    """
    n_permutations, seed = job
    n_cells = len(run.indptr) - 1
    counts, copies = np.zeros(n_cells, np.int64), np.zeros(n_genes, np.int32)
    codes, share, k = np.empty(1 << 12, np.int64), np.empty(1 << 12, np.float32), 0
    scratch = np.empty(1 << 12, np.int64)
    for cell in range(n_cells):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        grouped, bounds = _by_community(labels[start:stop], run.gene[start:stop])
        grouped.sort()
        state = _mix(np.uint64(seed) + _GOLDEN)
        for g in grouped:
            state = _mix(state + np.uint64(g) * _MIX_1)
        n = 0
        for _ in range(n_permutations):
            state = _shuffle(grouped, state)
            found = _emit(grouped, bounds, min_copies, copies, scratch[n:])
            if found < 0:
                grown = np.empty(2 * (n - found), np.int64)
                grown[:n] = scratch[:n]
                scratch = grown
                found = _emit(grouped, bounds, min_copies, copies, scratch[n:])
            n += found
        seen = scratch[:n]
        seen.sort()
        if k + n > len(codes):
            wider, shares = np.empty(2 * (k + n), np.int64), np.empty(2 * (k + n), np.float32)
            wider[:k], shares[:k] = codes[:k], share[:k]
            codes, share = wider, shares
        first = k
        for i in range(n):
            if k == first or codes[k - 1] != seen[i]:
                codes[k], share[k] = seen[i], 0.0
                k += 1
            share[k - 1] += 1.0
        for i in range(first, k):
            share[i] /= n_permutations
        counts[cell] = k - first
    return counts, codes[:k], share[:k]
