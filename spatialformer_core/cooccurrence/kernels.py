"""Numba kernels of communities of transcripts: canonical order, linking, Louvain.

Kernels call only kernels of their own file, because numba's cache does not see a helper change in
another. All release the interpreter lock and work on one run of cells: threads share nothing.

Louvain depends on the order of visits and on how ties are broken. Here both follow the rank of a
transcript's distance from its cell's centre, so the result does not depend on the order of the
transcripts, nor on how the slide is moved, turned or mirrored. There is no random number in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray, IntArray, LongArray

UNASSIGNED = -1
"""Community of the transcripts of a cell that cannot have a pair."""

_MAX_SWEEPS = 100
_LEAST_GAIN = 1e-12
_FIXED_POINT = float(1 << 20)


class Network(NamedTuple):
    """A weighted graph in CSR form; an entry of a node for itself is its inner weight.

    Entry ``p`` has the weight ``weight[p & mask]``: with the mask 0 all weigh the same and the
    inner loop reads one number from the cache instead of one per edge from memory.
    """

    indptr: LongArray
    indices: IntArray
    weight: DoubleArray
    mask: int


class Run(NamedTuple):
    """Transcripts of some consecutive cells."""

    position: DoubleArray  # (m, 3), um, z = 0 in two dimensions
    gene: IntArray
    indptr: LongArray


@nb.njit(cache=True, nogil=True)
def _before(run: Run, a: int, b: int) -> bool:
    for k in range(3):
        if run.position[a, k] != run.position[b, k]:
            return bool(run.position[a, k] < run.position[b, k])
    return bool(run.gene[a] < run.gene[b])


@nb.njit(cache=True, nogil=True)
def _canonical_order(run: Run, start: int, stop: int) -> tuple[LongArray, DoubleArray]:
    """Return a cell's transcripts by distance from its centre, and these distances.

    The centre is summed in whole numbers, so that it does not depend on the order of the sum.
    """
    n = stop - start
    square = np.zeros(n)
    for k in range(3):
        low = run.position[start, k]
        for i in range(start, stop):
            low = min(low, run.position[i, k])
        total = np.int64(0)
        for i in range(start, stop):
            total += np.int64(np.rint((run.position[i, k] - low) * _FIXED_POINT))
        centre = total / (n * _FIXED_POINT)
        for i in range(n):
            offset = (run.position[start + i, k] - low) - centre
            square[i] += offset * offset
    order = np.argsort(square)
    for i in range(n):
        order[i] += start
    for i in range(1, n):
        moved = order[i]
        j = i - 1
        while (
            j >= 0
            and square[order[j] - start] == square[moved - start]
            and _before(run, moved, order[j])
        ):
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = moved
    distance = np.empty(n)
    for i in range(n):
        distance[i] = np.sqrt(square[order[i] - start])
    return order, distance


@nb.njit(cache=True, nogil=True)
def _link(
    run: Run, order: LongArray, distance: DoubleArray, radius: float, buffer: IntArray
) -> tuple[LongArray, IntArray]:
    """Link transcripts within the radius; returns row pointers and the (maybe grown) buffer.

    Two transcripts within the radius differ by no more than it in their distance from the
    centre, so only a window of the order is searched.
    """
    n = len(order)
    x, y, z = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        x[i], y[i], z[i] = run.position[order[i]]
    reach, radius2 = radius * (1 + 1e-9) + 1e-9, radius * radius
    indptr = np.zeros(n + 1, np.int64)
    first, last, k = 0, 0, 0
    for i in range(n):
        while distance[i] - distance[first] > reach:
            first += 1
        while last < n and distance[last] - distance[i] <= reach:
            last += 1
        if k + last - first > len(buffer):
            grown = np.empty(2 * (k + last - first), np.int32)
            grown[:k] = buffer[:k]
            buffer = grown
        for j in range(first, last):
            dx, dy, dz = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            buffer[k] = j
            # Without a branch: half of the tests succeed, no processor predicts them.
            k += (dx * dx + dy * dy + dz * dz <= radius2) & (j != i)
        indptr[i + 1] = k
    return indptr, buffer


class Moves(NamedTuple):
    """State of one level of Louvain."""

    community: IntArray  # of each node
    degree: DoubleArray  # of each node
    inner: DoubleArray  # weight of each node to itself
    inside: DoubleArray  # summed degree of each community
    weight_to: DoubleArray  # scratch: weight from the visited node to each community
    touched: IntArray  # scratch: communities that it reaches


@nb.njit(cache=True, nogil=True)
def _begin(net: Network) -> Moves:
    n = len(net.indptr) - 1
    community, degree, inner = np.arange(n).astype(np.int32), np.zeros(n), np.zeros(n)
    for i in range(n):
        for p in range(net.indptr[i], net.indptr[i + 1]):
            degree[i] += net.weight[p & net.mask]
            if net.indices[p] == i:
                inner[i] += net.weight[p & net.mask]
    touched = np.empty(n, np.int32)
    return Moves(community, degree, inner, degree.copy(), np.zeros(n), touched)


@nb.njit(cache=True, nogil=True)
def _move_node(net: Network, state: Moves, i: int, total_weight: float) -> bool:
    """Move a node to the neighbouring community of the largest gain; tell whether it moved.

    Resolution 1; ties stay, or go to the community met first.
    """
    own, n_touched = state.community[i], 0
    for p in range(net.indptr[i], net.indptr[i + 1]):
        c = state.community[net.indices[p]]
        if state.weight_to[c] == 0.0:
            state.touched[n_touched] = c
            n_touched += 1
        state.weight_to[c] += net.weight[p & net.mask]
    share = state.degree[i] / total_weight
    state.inside[own] -= state.degree[i]
    state.weight_to[own] -= state.inner[i]
    best, best_gain = own, state.weight_to[own] - state.inside[own] * share
    state.weight_to[own] = 0.0
    for t in range(n_touched):
        c = state.touched[t]
        gain = state.weight_to[c] - state.inside[c] * share
        if c != own and gain > best_gain + _LEAST_GAIN:
            best, best_gain = c, gain
        state.weight_to[c] = 0.0
    state.inside[best] += state.degree[i]
    state.community[i] = best
    return bool(best != own)


@nb.njit(cache=True, nogil=True)
def _move_nodes(net: Network, total_weight: float) -> tuple[bool, IntArray]:
    """Visit all nodes until none moves; return whether any did, and their communities."""
    state = _begin(net)
    improved = False
    for _ in range(_MAX_SWEEPS):
        moved = False
        for i in range(len(state.community)):
            moved |= _move_node(net, state, i, total_weight)
        improved |= moved
        if not moved:
            break
    return improved, state.community


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
    indices, weight = np.empty(n_entries, np.int32), np.empty(n_entries)
    place = np.full(n_communities, -1, np.int64)
    k = 0
    for c in range(n_communities):
        for m in range(first[c], first[c + 1]):
            i = member[m]
            for p in range(net.indptr[i], net.indptr[i + 1]):
                other = community[net.indices[p]]
                if place[other] < indptr[c]:
                    place[other] = k
                    indices[k], weight[k] = other, 0.0
                    k += 1
                weight[place[other]] += net.weight[p & net.mask]
        indptr[c + 1] = k
    return Network(indptr, indices[:k], weight[:k], -1)


@nb.njit(cache=True, nogil=True)
def _louvain(net: Network, label: IntArray) -> None:
    """Write the community of every node."""
    n = len(label)
    for i in range(n):
        label[i] = i
    total_weight = 0.0
    for p in range(net.indptr[n]):
        total_weight += net.weight[p & net.mask]
    while total_weight > 0:
        improved, community = _move_nodes(net, total_weight)
        if not improved:
            break
        n_communities = _renumber(community)
        for i in range(n):
            label[i] = community[label[i]]
        net = _merge_nodes(net, community, n_communities)


@nb.njit(cache=True, nogil=True)
def find_communities(run: Run, radius: float, wanted: BoolArray) -> IntArray:
    """Return each transcript's community, numbered from 0 within its cell.

    The transcripts of cells that are not wanted, shape ``(n_cells,)``, are left unassigned.
    """
    labels = np.full(len(run.gene), UNASSIGNED, np.int32)
    buffer = np.empty(1 << 16, np.int32)
    one = np.ones(1)
    for cell in range(len(run.indptr) - 1):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        if stop == start or not wanted[cell]:
            continue
        order, distance = _canonical_order(run, start, stop)
        indptr, buffer = _link(run, order, distance, radius, buffer)
        label = np.empty(stop - start, np.int32)
        _louvain(Network(indptr, buffer, one, 0), label)
        for i in range(len(order)):
            labels[order[i]] = label[i]
    return labels
