"""Numba kernels of the first level of Louvain where links are a matrix of bits.

A file of its own because numba's cache does not see a helper change in another file.

The weight from a node to a community is a count of bits. Once the first visits have left a few
communities these weights are kept up to date instead of being summed anew: only one visit in ten
moves a node. The decisions are those of `kernels`, which walks lists of neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import IntArray, LongArray
from spatialformer_core.cooccurrence.link_kernels import BitRows, Links
from spatialformer_core.cooccurrence.order_kernels import Run

_MAX_SWEEPS = 100
_LEAST_GAIN = -(1 << 62)
_WORD = 64
_ONE = np.uint64(1)
_NONE = np.uint64(0)


class Merged(NamedTuple):
    """What the first level leaves of the cells whose links are bits."""

    community: IntArray  # (n_seeds, m), numbered from 0 within the cell
    first: LongArray  # where the weights of a seed and cell begin, (n_seeds * n_cells + 1,)
    between: LongArray  # flat: weights between the communities, k x k


class Merging(NamedTuple):
    """State of the first visits on a matrix of bits: single nodes and merged communities."""

    bits: BitRows  # neighbours of each node
    degree: LongArray  # of each node
    community: IntArray  # of each node: the number of the node that it began with
    slot: IntArray  # of each community, -1 while it is one node
    number: IntArray  # community of each slot
    member: BitRows  # nodes of each slot
    inside: LongArray  # summed degree of each slot
    single: BitRows  # nodes that nobody joined and that joined nobody, one row


@nb.njit(cache=True, nogil=True)
def _count_bits(word: np.uint64) -> int:
    # LLVM knows this sum and emits the processor's own instruction.
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    twos = np.uint64(0x3333333333333333)
    word = (word & twos) + ((word >> np.uint64(2)) & twos)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56)))


@nb.njit(cache=True, nogil=True)
def _lowest(word: np.uint64) -> int:
    return _count_bits((word & (~word + _ONE)) - _ONE)


@nb.njit(cache=True, nogil=True)
def _bit(i: int) -> np.uint64:
    return _ONE << np.uint64(i & 63)


@nb.njit(cache=True, nogil=True)
def _best_merged(state: Merging, n_slots: int, i: int, total: int) -> tuple[int, int]:
    """Return the community of several nodes that a node gains most by, and the gain.

    The node itself is in none; its own community wins ties.
    """
    own, degree = state.community[i], state.degree[i]
    best, best_gain = own, 0
    if state.slot[own] >= 0:
        best_gain = _LEAST_GAIN
    for s in range(n_slots):
        weight = 0
        for w in range(state.bits.shape[1]):
            weight += _count_bits(state.bits[i, w] & state.member[s, w])
        gain, c = weight * total - state.inside[s] * degree, state.number[s]
        wins = gain > best_gain or (gain == best_gain and best != own and c < best)
        if c == own:
            wins = gain >= best_gain
        if wins and (weight > 0 or c == own):
            best, best_gain = c, gain
    return best, best_gain


@nb.njit(cache=True, nogil=True)
def _best_single(state: Merging, i: int, total: int, rival: tuple[int, int]) -> tuple[int, int]:
    """Return the rival and its gain, or a neighbour that nobody joined if that is better."""
    (best, best_gain), own, degree = rival, state.community[i], state.degree[i]
    for w in range(state.bits.shape[1]):
        word = state.bits[i, w] & state.single[w]
        while word != _NONE:
            c = w * _WORD + _lowest(word)
            word &= word - _ONE
            gain = total - state.degree[c] * degree
            if gain > best_gain or (gain == best_gain and best != own and c < best):
                best, best_gain = c, gain
    return best, best_gain


@nb.njit(cache=True, nogil=True)
def _join(state: Merging, n_slots: int, i: int, c: int) -> int:
    """Put a node that is in no slot into a community; return the number of slots."""
    if c == i and state.slot[i] < 0:
        return n_slots
    state.single[i >> 6] &= ~_bit(i)
    s = state.slot[c]
    if s < 0:
        s, state.slot[c], state.number[n_slots] = n_slots, n_slots, c
        state.single[c >> 6] &= ~_bit(c)
        state.member[s, c >> 6] |= _bit(c)
        state.inside[s] = state.degree[c]
        n_slots += 1
    state.member[s, i >> 6] |= _bit(i)
    state.inside[s] += state.degree[i]
    state.community[i] = c
    return n_slots


@nb.njit(cache=True, nogil=True)
def _first_visits(bits: BitRows, degree: LongArray, visits: IntArray, total: int) -> IntArray:
    """Visit every node once, beginning with each on its own; return their communities."""
    n, words = bits.shape
    single = np.full(words, ~_NONE, np.uint64)
    slot, number = np.full(n, -1, np.int32), np.empty(n, np.int32)
    member, inside = np.zeros((n, words), np.uint64), np.zeros(n, np.int64)
    community = np.arange(n).astype(np.int32)
    state = Merging(bits, degree, community, slot, number, member, inside, single)
    least = total
    for i in range(n):
        if degree[i] > 0:
            least = min(least, degree[i])
    n_slots = 0
    for i in visits:
        own = community[i]
        if slot[own] >= 0:
            member[slot[own], i >> 6] &= ~_bit(i)
            inside[slot[own]] -= degree[i]
        best, gain = _best_merged(state, n_slots, i, total)
        # No neighbour on its own gives more than the one of the least degree would.
        if total - least * degree[i] >= gain:
            best, gain = _best_single(state, i, total, (best, gain))
        n_slots = _join(state, n_slots, i, best)
    return community


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
def _weights(bits: BitRows, community: IntArray, n_communities: int) -> IntArray:
    """Return how many neighbours each node has in each community, ``(n, n_communities)``."""
    n, words = bits.shape
    member = np.zeros((n_communities, words), np.uint64)
    for i in range(n):
        member[community[i], i >> 6] |= _bit(i)
    weight = np.zeros((n, n_communities), np.int32)
    for i in range(n):
        for c in range(n_communities):
            for w in range(words):
                weight[i, c] += _count_bits(bits[i, w] & member[c, w])
    return weight


@nb.njit(cache=True, nogil=True)
def _later_visits(
    bits: BitRows, degree: LongArray, community: IntArray, visits: IntArray, weight: IntArray
) -> None:
    """Visit all nodes until none moves; ``community`` and ``weight`` (`_weights`) are updated."""
    inside, total = np.zeros(weight.shape[1], np.int64), degree.sum()
    for i in range(len(degree)):
        inside[community[i]] += degree[i]
    for _ in range(_MAX_SWEEPS - 1):
        moved = False
        for i in visits:
            own, own_degree = community[i], degree[i]
            inside[own] -= own_degree
            best, best_gain = own, weight[i, own] * total - inside[own] * own_degree
            for c in range(len(inside)):
                gain = weight[i, c] * total - inside[c] * own_degree
                if gain > best_gain and weight[i, c] > 0:
                    best, best_gain = c, gain
            inside[best] += own_degree
            if best == own:
                continue
            moved = True
            community[i] = best
            for w in range(bits.shape[1]):
                word = bits[i, w]
                while word != _NONE:
                    j = w * _WORD + _lowest(word)
                    weight[j, own] -= 1
                    weight[j, best] += 1
                    word &= word - _ONE
        if not moved:
            return


@nb.njit(cache=True, nogil=True)
def _between(community: IntArray, weight: IntArray) -> LongArray:
    """Return the weights between the communities, which are given new numbers."""
    before = community.copy()
    k = _renumber(community)
    new = np.zeros(weight.shape[1], np.int32)
    for i in range(len(community)):
        new[before[i]] = community[i]
    between = np.zeros((k, k), np.int64)
    for i in range(len(community)):
        # To communities that lost all of their nodes the weight is 0.
        for c in range(weight.shape[1]):
            between[community[i], new[c]] += weight[i, c]
    return between.ravel()


@nb.njit(cache=True, nogil=True)
def _degrees(bits: BitRows) -> LongArray:
    degree = np.zeros(len(bits), np.int64)
    for i in range(len(bits)):
        for w in range(bits.shape[1]):
            degree[i] += _count_bits(bits[i, w])
    return degree


@nb.njit(cache=True, nogil=True)
def merge_dense(links: Links, run: Run, visits: IntArray) -> Merged:
    """Run the first level in the cells whose links are bits; ``visits`` has ``(n_seeds, m)``."""
    n_seeds, n_cells = len(visits), len(run.indptr) - 1
    community = np.zeros(visits.shape, np.int32)
    first, between = np.zeros(n_seeds * n_cells + 1, np.int64), np.empty(1 << 10, np.int64)
    k = 0
    for cell in range(n_cells):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        words = links.bits[links.first_word[cell] : links.first_word[cell + 1]]
        if len(words):
            bits = words.reshape(stop - start, -1)
            degree = _degrees(bits)
        for number in range(n_seeds):
            if len(words):
                order, own = visits[number, start:stop], community[number, start:stop]
                own[:] = _first_visits(bits, degree, order, degree.sum())
                weight = _weights(bits, own, _renumber(own))
                _later_visits(bits, degree, own, order, weight)
                found = _between(own, weight)
                if k + len(found) > len(between):
                    longer = np.empty(2 * (k + len(found)), np.int64)
                    longer[:k] = between[:k]
                    between = longer
                between[k : k + len(found)] = found
                k += len(found)
            first[cell * n_seeds + number + 1] = k
    return Merged(community, first, between)
