"""Numba kernels of communities of transcripts: Louvain.

Kernels call only kernels of their own file, because numba's cache does not see a helper change in
another. All release the interpreter lock and work on one run of cells: threads share nothing.

Louvain depends on the order of visits and on how ties are broken. Both follow the place of a
transcript in its cell, which comes in canonical order (`order_kernels`). Links weigh 1, so every
gain is a whole number and no rounding decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import BoolArray, IntArray, LongArray
from spatialformer_core.cooccurrence.dense_kernels import Merged
from spatialformer_core.cooccurrence.link_kernels import Links
from spatialformer_core.cooccurrence.order_kernels import Run

UNASSIGNED = -1
"""Community of the transcripts of a cell that cannot have a pair."""

_MAX_SWEEPS = 100


class Network(NamedTuple):
    """A weighted graph in CSR form; an entry of a node for itself is its inner weight."""

    indptr: LongArray
    indices: IntArray
    weight: LongArray


class Moves(NamedTuple):
    """State of one level of Louvain on lists of neighbours."""

    community: IntArray  # of each node
    degree: LongArray  # of each node
    inner: LongArray  # weight of each node to itself
    inside: LongArray  # summed degree of each community
    weight_to: LongArray  # scratch: weight from the visited node to each community
    touched: IntArray  # scratch: communities that it reaches


@nb.njit(cache=True, nogil=True)
def _begin(net: Network) -> Moves:
    n = len(net.indptr) - 1
    community = np.arange(n).astype(np.int32)
    degree, inner = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        for p in range(net.indptr[i], net.indptr[i + 1]):
            degree[i] += net.weight[p]
            if net.indices[p] == i:
                inner[i] += net.weight[p]
    zeros = np.zeros(n, np.int64)
    return Moves(community, degree, inner, degree.copy(), zeros, np.empty(n, np.int32))


@nb.njit(cache=True, nogil=True)
def _move_node(net: Network, state: Moves, i: int, total: int) -> bool:
    """Move a node to the neighbouring community of the largest gain; tell whether it moved.

    Resolution 1; ties stay, or go to the community of the lowest number.
    """
    own, n_touched = state.community[i], 0
    for p in range(net.indptr[i], net.indptr[i + 1]):
        c = state.community[net.indices[p]]
        if state.weight_to[c] == 0:
            state.touched[n_touched] = c
            n_touched += 1
        state.weight_to[c] += net.weight[p]
    degree = state.degree[i]
    state.inside[own] -= degree
    best = own
    best_gain = (state.weight_to[own] - state.inner[i]) * total - state.inside[own] * degree
    state.weight_to[own] = 0
    for t in range(n_touched):
        c = state.touched[t]
        gain = state.weight_to[c] * total - state.inside[c] * degree
        state.weight_to[c] = 0
        if c != own and (gain > best_gain or (gain == best_gain and best != own and c < best)):
            best, best_gain = c, gain
    state.inside[best] += degree
    state.community[i] = best
    return bool(best != own)


@nb.njit(cache=True, nogil=True)
def _renumber(community: IntArray) -> int:
    """Give communities numbers by first appearance; return how many there are."""
    number = np.full(len(community), -1, np.int32)
    n = 0
    for i in range(len(community)):
        c = community[i]
        if number[c] < 0:
            number[c] = n
            n += 1
        community[i] = number[c]
    return n


@nb.njit(cache=True, nogil=True)
def _move_nodes(net: Network, visits: IntArray, total: int) -> tuple[bool, IntArray]:
    """Visit all nodes until none moves; return whether any did, and their communities."""
    state = _begin(net)
    for sweep in range(_MAX_SWEEPS):
        moved = False
        for i in visits:
            moved |= _move_node(net, state, i, total)
        if not moved:
            return sweep > 0, state.community
        if sweep == 0:
            # From here on as in the matrix of bits, where ties follow these numbers.
            _renumber(state.community)
            state.inside[:] = 0
            for i in range(len(visits)):
                state.inside[state.community[i]] += state.degree[i]
    return True, state.community


@nb.njit(cache=True, nogil=True)
def _merge_nodes(net: Network, community: IntArray, n_communities: int) -> Network:
    """Return the graph whose nodes are the communities."""
    n = len(community)
    first = np.zeros(n_communities + 1, np.int64)
    for i in range(n):
        first[community[i] + 1] += 1
    for c in range(n_communities):
        first[c + 1] += first[c]
    member, at = np.empty(n, np.int32), first[:-1].copy()
    for i in range(n):
        member[at[community[i]]] = i
        at[community[i]] += 1
    indptr = np.zeros(n_communities + 1, np.int64)
    n_entries = min(net.indptr[n], n_communities * n_communities)
    indices, weight = np.empty(n_entries, np.int32), np.empty(n_entries, np.int64)
    place = np.full(n_communities, -1, np.int64)
    k = 0
    for c in range(n_communities):
        for m in range(first[c], first[c + 1]):
            i = member[m]
            for p in range(net.indptr[i], net.indptr[i + 1]):
                other = community[net.indices[p]]
                if place[other] < indptr[c]:
                    place[other] = k
                    indices[k], weight[k] = other, 0
                    k += 1
                weight[place[other]] += net.weight[p]
        indptr[c + 1] = k
    return Network(indptr, indices[:k], weight[:k])


@nb.njit(cache=True, nogil=True)
def _merge_levels(net: Network, label: IntArray, visits: IntArray, total: int) -> None:
    """Run Louvain on a graph whose nodes are the communities in ``label``, which is updated."""
    while total > 0:
        improved, community = _move_nodes(net, visits, total)
        if not improved:
            return
        n_communities = _renumber(community)
        for i in range(len(label)):
            label[i] = community[label[i]]
        net = _merge_nodes(net, community, n_communities)
        visits = np.arange(n_communities).astype(np.int32)


@nb.njit(cache=True, nogil=True)
def _network(between: LongArray) -> Network:
    """Return a graph from the weights between its nodes, k x k."""
    k = int(np.sqrt(len(between)))
    indptr, n = np.zeros(k + 1, np.int64), 0
    indices, weight = np.empty(k * k, np.int32), np.empty(k * k, np.int64)
    for a in range(k):
        for b in range(k):
            if between[a * k + b] > 0:
                indices[n], weight[n] = b, between[a * k + b]
                n += 1
        indptr[a + 1] = n
    return Network(indptr, indices[:n], weight[:n])


@nb.njit(cache=True, nogil=True)
def find_communities(
    links: Links, merged: Merged, run: Run, visits: IntArray, wanted: BoolArray
) -> IntArray:
    """Return each transcript's community, numbered from 0 within its cell, ``(n_seeds, m)``.

    The transcripts of cells that are not wanted, shape ``(n_cells,)``, are left unassigned.
    """
    n_seeds = len(visits)
    labels = np.full(visits.shape, UNASSIGNED, np.int32)
    for cell in range(len(run.indptr) - 1):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        if not wanted[cell] or start == stop:
            continue
        first = links.indptr[start : stop + 1]
        indices = links.indices[first[0] : first[-1]]
        alone = Network(first - first[0], indices, np.ones(len(indices), np.int64))
        for number in range(n_seeds):
            label, order = labels[number, start:stop], visits[number, start:stop]
            at = cell * n_seeds + number
            if merged.first[at] < merged.first[at + 1]:
                label[:] = merged.community[number, start:stop]
                net = _network(merged.between[merged.first[at] : merged.first[at + 1]])
                order = np.arange(len(net.indptr) - 1).astype(np.int32)
            else:
                label[:] = np.arange(stop - start)
                net = alone
            _merge_levels(net, label, order, net.weight.sum())
    return labels
