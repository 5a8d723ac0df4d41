"""Which genes sit together inside a cell."""

from spatialformer_core.cooccurrence.expression import (
    LEVELS,
    N_STRATA,
    BothGenes,
    both_genes,
    copy_tables,
)
from spatialformer_core.cooccurrence.matrix import (
    SEPARATOR,
    PairMatrix,
    check_gene_names,
    join_matrices,
    named_matrix,
    pair_matrix,
    pair_name,
    split_pair_names,
)
from spatialformer_core.cooccurrence.null import PairNull, permuted_pairs
from spatialformer_core.cooccurrence.pairs import (
    Cooccurrence,
    communities,
    cooccurring_pairs,
    find_cooccurrence,
)
from spatialformer_core.cooccurrence.runs import Molecules
from spatialformer_core.cooccurrence.settings import CooccurrenceSettings
from spatialformer_core.cooccurrence.variable import depth_bins, variability, variable_pairs

__all__ = [
    "LEVELS",
    "N_STRATA",
    "SEPARATOR",
    "BothGenes",
    "Cooccurrence",
    "CooccurrenceSettings",
    "Molecules",
    "PairMatrix",
    "PairNull",
    "both_genes",
    "check_gene_names",
    "communities",
    "cooccurring_pairs",
    "copy_tables",
    "depth_bins",
    "find_cooccurrence",
    "join_matrices",
    "named_matrix",
    "pair_matrix",
    "pair_name",
    "permuted_pairs",
    "split_pair_names",
    "variability",
    "variable_pairs",
]
