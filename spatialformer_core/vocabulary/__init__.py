"""Genes and sample words as token ids, and cells as ranked gene tokens."""

from spatialformer_core.vocabulary.build import build_vocabulary
from spatialformer_core.vocabulary.mapping import (
    SHIPPED_ENSEMBL,
    GeneMapping,
    GeneNames,
    map_genes,
    read_gene_names,
)
from spatialformer_core.vocabulary.published import (
    PUBLISHED,
    PublishedVocabulary,
    load_published,
)
from spatialformer_core.vocabulary.report import CoverageReport, coverage_report
from spatialformer_core.vocabulary.tokenise import TokeniseReport, tokenise
from spatialformer_core.vocabulary.vocabulary import (
    CLS,
    MASK,
    META_FIELDS,
    PAD,
    SEP,
    SPECIALS,
    UNKNOWN,
    Coverage,
    Vocabulary,
    coverage,
)

__all__ = [
    "CLS",
    "MASK",
    "META_FIELDS",
    "PAD",
    "PUBLISHED",
    "SEP",
    "SHIPPED_ENSEMBL",
    "SPECIALS",
    "UNKNOWN",
    "Coverage",
    "CoverageReport",
    "GeneMapping",
    "GeneNames",
    "PublishedVocabulary",
    "TokeniseReport",
    "Vocabulary",
    "build_vocabulary",
    "coverage",
    "coverage_report",
    "load_published",
    "map_genes",
    "read_gene_names",
    "tokenise",
]
