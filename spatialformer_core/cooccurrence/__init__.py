"""Which genes sit together inside a cell."""

from spatialformer_core.cooccurrence.null import PairNull, permuted_pairs
from spatialformer_core.cooccurrence.pairs import (
    communities,
    cooccurring_pairs,
    pairs_from_communities,
)

__all__ = [
    "PairNull",
    "communities",
    "cooccurring_pairs",
    "pairs_from_communities",
    "permuted_pairs",
]
