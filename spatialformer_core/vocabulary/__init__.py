"""Genes and sample words as token ids, and cells as ranked gene tokens."""

from spatialformer_core.vocabulary.build import build_vocabulary
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
    "SEP",
    "SPECIALS",
    "UNKNOWN",
    "Coverage",
    "TokeniseReport",
    "Vocabulary",
    "build_vocabulary",
    "coverage",
    "tokenise",
]
