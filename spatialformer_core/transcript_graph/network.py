"""Two layers of GraphSAGE over sampled neighbourhoods (paper section 4.2)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.nn import SAGEConv

from spatialformer_core.arrays import LongArray
from spatialformer_core.transcript_graph.sampling import TwoHops


class GraphSage(torch.nn.Module):
    """Vector of a transcript from its gene and from the genes around it.

    A transcript enters as a learnt vector of its gene instead of a one-hot row, so that a million
    transcripts cost a million numbers. The first layer therefore sends messages from the table of
    genes itself: the same sum, without a row per sampled transcript.

    Parameters
    ----------
    n_genes
        Rows of the table.
    width, hidden, size
        Of a gene's vector, of the first layer and of the result.
    """

    def __init__(self, n_genes: int, width: int, hidden: int, size: int) -> None:
        super().__init__()
        self.gene = torch.nn.Embedding(n_genes, width)
        self.first = SAGEConv(width, hidden)
        self.second = SAGEConv(hidden, size)

    def forward(self, gene: NDArray[np.integer], hops: TwoHops) -> Float[Tensor, "b size"]:
        """Return a vector per root.

        Parameters
        ----------
        gene
            Gene of every transcript of the graph, shape ``(n,)``.
        hops
            Sampled neighbourhoods of the roots.
        """
        b, k1 = hops.hop_1.shape
        middle = np.concatenate([hops.roots[:, None], hops.hop_1], axis=1).ravel()
        # A missing neighbour keeps a place in the block, but no edge leads to it.
        own = self.gene(torch.from_numpy(gene[np.maximum(middle, 0)].astype(np.int64)))
        sources, targets = _edges(hops.hop_2.reshape(b * (1 + k1), -1))
        edges = torch.from_numpy(np.stack([gene[sources].astype(np.int64), targets]))
        inner = torch.relu(self.first((self.gene.weight, own), edges))
        _, targets = _edges(hops.hop_1)
        place = np.flatnonzero(hops.hop_1.ravel() >= 0)
        sources = place // k1 * (1 + k1) + 1 + place % k1
        edges = torch.from_numpy(np.stack([sources, targets]))
        result: Tensor = self.second((inner, inner[:: 1 + k1]), edges)
        return result


def _edges(neighbours: NDArray[np.integer]) -> tuple[LongArray, LongArray]:
    """Return ``(source transcript, target row)`` of every neighbour that there is."""
    target, _ = found = np.nonzero(neighbours >= 0)
    return neighbours[found].astype(np.int64), target
