"""Numba kernels of gene pairs: which genes share a community, also under permuted labels.

A file of its own for the same reason as `kernels`; see there. Transcripts come in canonical order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import BoolArray, IntArray, LongArray
from spatialformer_core.cooccurrence.order_kernels import Run
from spatialformer_core.cooccurrence.runs import Compartments

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Cell(NamedTuple):
    """Transcripts of one cell."""

    gene: IntArray
    compartment: Compartments


class Permuted(NamedTuple):
    """Pairs of each cell and how often permuted labels give them."""

    counts: LongArray  # observed pairs of each cell
    codes: LongArray  # of the observed pairs, left * n_genes + right
    hits: IntArray  # searches that found each observed pair
    times: IntArray  # permutations with each observed pair
    null_codes: LongArray  # pairs of any permutation, cell after cell
    null_times: IntArray


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
def _room(values: Any, used: int, more: int) -> Any:
    """Return an array that begins as this one and has room for more values."""
    if used + more <= len(values):
        return values
    longer = np.empty(2 * (used + more), values.dtype)
    longer[:used] = values[:used]
    return longer


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
def _search_pairs(label: IntArray, gene: IntArray, min_copies: int, copies: IntArray) -> LongArray:
    """Return the distinct pairs of one cell and one search, ascending."""
    grouped, bounds = _by_community(label, gene)
    kept, ends = np.empty(len(grouped), np.int32), np.zeros(len(bounds), np.int64)
    n = 0
    for c in range(len(bounds) - 1):
        members = grouped[bounds[c] : bounds[c + 1]]
        found = _frequent(members, min_copies, copies, kept[ends[c] :])
        ends[c + 1] = ends[c] + found
        n += found * (found - 1) // 2
    codes, k = np.empty(n, np.int64), 0
    for c in range(len(bounds) - 1):
        for a in range(ends[c], ends[c + 1]):
            for b in range(a + 1, ends[c + 1]):
                low, high = min(kept[a], kept[b]), max(kept[a], kept[b])
                codes[k] = np.int64(low) * len(copies) + high
                k += 1
    codes.sort()
    k = 0
    for i in range(n):
        if k == 0 or codes[i] != codes[k - 1]:
            codes[k] = codes[i]
            k += 1
    return codes[:k]


@nb.njit(cache=True, nogil=True)
def _tally(codes: LongArray) -> tuple[LongArray, IntArray]:
    """Sort; return the distinct values (in place) and how often each is there."""
    codes.sort()
    times, k = np.zeros(len(codes), np.int32), 0
    for i in range(len(codes)):
        if k == 0 or codes[i] != codes[k - 1]:
            codes[k] = codes[i]
            k += 1
        times[k - 1] += 1
    return codes[:k], times[:k]


@nb.njit(cache=True, nogil=True)
def _cell_pairs(
    labels: IntArray, gene: IntArray, min_copies: int, copies: IntArray
) -> tuple[LongArray, IntArray]:
    """Return the pairs of one cell and how many searches found each, ascending."""
    codes = _search_pairs(labels[0], gene, min_copies, copies)
    if len(labels) == 1:
        return codes, np.ones(len(codes), np.int32)
    n = len(codes)
    for search in range(1, len(labels)):
        found = _search_pairs(labels[search], gene, min_copies, copies)
        codes = _room(codes, n, len(found))
        codes[n : n + len(found)] = found
        n += len(found)
    return _tally(codes[:n])


@nb.njit(cache=True, nogil=True)
def find_pairs(
    labels: IntArray, run: Run, n_genes: int, min_copies: int
) -> tuple[LongArray, LongArray, IntArray]:
    """Return the number of pairs of each cell, their codes and how many searches found each."""
    n_cells = len(run.indptr) - 1
    counts, copies = np.zeros(n_cells, np.int64), np.zeros(n_genes, np.int32)
    codes, hits, k = np.empty(1 << 10, np.int64), np.empty(1 << 10, np.int32), 0
    for cell in range(n_cells):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        found, times = _cell_pairs(labels[:, start:stop], run.gene[start:stop], min_copies, copies)
        n = len(found)
        codes, hits = _room(codes, k, n), _room(hits, k, n)
        codes[k : k + n], hits[k : k + n] = found, times
        counts[cell] = n
        k += n
    return counts, codes[:k], hits[:k]


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
def _stream(gene: IntArray, seed: int, first: IntArray) -> np.uint64:
    """Return a number made of the pattern in which a cell's genes repeat.

    It depends neither on the names of the genes nor on other cells. ``first`` comes and goes as
    zeros.
    """
    state, n = _mix(np.uint64(seed) + _GOLDEN), 0
    for g in gene:
        if first[g] == 0:
            n += 1
            first[g] = n
        state = _mix(state + np.uint64(first[g]) * _MIX_1)
    for g in gene:
        first[g] = 0
    return state


@nb.njit(cache=True, nogil=True)
def _null_pairs(
    labels: IntArray, cell: Cell, job: tuple[int, int, int], zeros: IntArray
) -> tuple[LongArray, IntArray]:
    """Return the pairs of one cell under permutations and how many permutations have each.

    Genes change place within their compartment. ``job``: copies, permutations, seed.
    """
    min_copies, n_permutations, seed = job
    state = _stream(cell.gene, seed, zeros)
    place = np.argsort(cell.compartment, kind="mergesort")
    pool, shuffled = cell.gene[place], np.empty(len(place), np.int32)
    codes, n = np.empty(1 << 8, np.int64), 0
    for _ in range(n_permutations):
        first = 0
        for i in range(1, len(place) + 1):
            if i == len(place) or cell.compartment[place[i]] != cell.compartment[place[first]]:
                state = _shuffle(pool[first:i], state)
                first = i
        for i in range(len(place)):
            shuffled[place[i]] = pool[i]
        found, hits = _cell_pairs(labels, shuffled, min_copies, zeros)
        codes = _room(codes, n, len(found))
        for i in range(len(found)):
            codes[n] = found[i]
            # As in the data, a pair counts if most searches find it.
            n += 2 * hits[i] > len(labels)
    return _tally(codes[:n])


@nb.njit(cache=True, nogil=True)
def permute_pairs(
    labels: IntArray, run: Run, compartment: Compartments, n_genes: int, job: tuple[int, int, int]
) -> Permuted:
    """Compare each cell's pairs with permuted labels; ``job``: copies, permutations, seed."""
    n_cells = len(run.indptr) - 1
    counts, zeros = np.zeros(n_cells, np.int64), np.zeros(n_genes, np.int32)
    codes, hits, times = np.empty(8, np.int64), np.empty(8, np.int32), np.empty(8, np.int32)
    null_codes, null_times = np.empty(8, np.int64), np.empty(8, np.int32)
    k, n = 0, 0
    for cell in range(n_cells):
        at = slice(run.indptr[cell], run.indptr[cell + 1])
        found, votes = _cell_pairs(labels[:, at], run.gene[at], job[0], zeros)
        null, often = _null_pairs(labels[:, at], Cell(run.gene[at], compartment[at]), job, zeros)
        null_codes, null_times = _room(null_codes, n, len(null)), _room(null_times, n, len(null))
        null_codes[n : n + len(null)], null_times[n : n + len(null)] = null, often
        n += len(null)
        codes, hits = _room(codes, k, len(found)), _room(hits, k, len(found))
        times = _room(times, k, len(found))
        for i in range(len(found)):
            codes[k], hits[k], times[k] = found[i], votes[i], 0
            where = np.searchsorted(null, found[i])
            if where < len(null) and null[where] == found[i]:
                times[k] = often[where]
            k += 1
        counts[cell] = len(found)
    return Permuted(counts, codes[:k], hits[:k], times[:k], null_codes[:n], null_times[:n])
