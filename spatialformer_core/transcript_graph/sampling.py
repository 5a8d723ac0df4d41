"""Neighbourhoods of fixed size and pairs of transcripts, drawn by number.

Nothing is remembered between draws: what is drawn for a root depends on the seed and on that
root, not on the batch in which it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.transcript_graph import kernels
from spatialformer_core.transcript_graph.graph import TranscriptGraph

FAN_OUT = (10, 10)
"""Neighbours drawn in the first and in the second hop."""


@dataclass(frozen=True, slots=True)
class TwoHops:
    """Sampled neighbourhoods of ``b`` roots; -1 stands where there is no neighbour.

    Attributes
    ----------
    roots
        Transcripts, shape ``(b,)``.
    hop_1
        Neighbours of each root, shape ``(b, k1)``.
    hop_2
        Neighbours of each root (place 0) and of each of its drawn neighbours,
        shape ``(b, 1 + k1, k2)``.
    """

    roots: LongArray
    hop_1: IntArray
    hop_2: IntArray


@dataclass(frozen=True, slots=True)
class TranscriptPairs:
    """Each root with a neighbour and with a transcript that is none, shape ``(b,)``."""

    root: LongArray
    near: IntArray
    far: IntArray


def sample_two_hops(
    graph: TranscriptGraph,
    roots: NDArray[np.integer],
    *,
    seed: int,
    fan_out: tuple[int, int] = FAN_OUT,
) -> TwoHops:
    """Draw a neighbourhood of fixed size around each root.

    Neighbours are drawn with replacement, whatever the degree; a transcript without any gets -1,
    and so do the neighbours of -1.

    Parameters
    ----------
    graph
        Neighbouring transcripts.
    roots
        Transcripts in the order of the graph, shape ``(b,)``.
    seed
        A root's draw depends on this and on the root alone.
    fan_out
        Neighbours per hop.

    Raises
    ------
    SpatialFormerError
        If a root lies outside the graph or the fan-out is not positive.
    """
    wanted = _checked(graph, roots)
    k1, k2 = fan_out
    if min(k1, k2) < 1:
        raise SpatialFormerError(f"A fan-out of {fan_out} draws nothing.")
    hop_1 = np.empty((len(wanted), k1), np.int32)
    hop_2 = np.empty((len(wanted), 1 + k1, k2), np.int32)
    kernels.two_hops((graph.graph.indptr, graph.graph.indices), wanted, seed, hop_1, hop_2)
    return TwoHops(wanted, hop_1, hop_2)


def draw_pairs(graph: TranscriptGraph, n: int, *, seed: int) -> TranscriptPairs:
    """Draw ``n`` roots with a neighbour each, and a transcript of the same slide that is none.

    The non-neighbour is uniform over the slide's transcripts beyond the radius, by measured
    distance: in a graph that keeps to cells a transcript just across the border counts as a
    neighbour that is not linked, and is not drawn either.

    Parameters
    ----------
    graph
        Neighbouring transcripts.
    n
        How many.
    seed
        Pair ``i`` of a seed is the same pair for every ``n``.

    Raises
    ------
    SpatialFormerError
        If no transcript has a neighbour.
    """
    linked = np.flatnonzero(graph.graph.degree)
    if not len(linked):
        raise SpatialFormerError(
            f"No two of {graph.n:,} transcripts lie within {graph.radius_um:g} um.",
            fix="Use a larger radius.",
        )
    root = linked[(np.random.default_rng(seed).random(n) * len(linked)).astype(np.int64)]
    slide = np.searchsorted(graph.slide_start, root, side="right") - 1
    bounds = (graph.slide_start[slide], graph.slide_start[slide + 1], graph.radius_um**2)
    network = (graph.graph.indptr, graph.graph.indices)
    near, far = kernels.draw_partners(network, graph.xyz_um, bounds, root, seed)
    found = far != kernels.NONE
    return TranscriptPairs(root[found], near[found], far[found])


def _checked(graph: TranscriptGraph, roots: NDArray[np.integer]) -> LongArray:
    wanted = np.require(roots, np.int64, ["C", "W"])
    if wanted.size and (wanted.min() < 0 or wanted.max() >= graph.n):
        raise SpatialFormerError(f"A root lies outside the {graph.n:,} transcripts of the graph.")
    return wanted
