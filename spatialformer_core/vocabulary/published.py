"""The published model's vocabulary of 6,065 tokens, in our layout.

Ours begins with our special tokens and lists words and genes alphabetically, so that every room
treats it like any other vocabulary; ``published_ids`` lead back to the published numbers (a
converter permutes embedding rows with them). Its medians are the published ones: of raw non-zero
counts, 1 for most genes, which ranks exactly like counts divided by those medians. The published
code leaves ties to an unstable sort over the order of the columns; here they go by gene name,
which is the order of the columns in the instrument's own panels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import IntArray
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary.vocabulary import META_FIELDS, UNKNOWN, Vocabulary, word

PUBLISHED = "published"
PUBLISHED_FILE = (
    Path(__file__).resolve().parents[2] / "data" / "vocabularies" / "published-6065.json"
)
_SPECIALS = ("<PAD>", "<CLS>", "<MASK>", "<SEP>")


class _PublishedFile(FrozenModel):
    """The shipped file; tokens stand in the order of their published ids."""

    format_version: Literal[1]
    name: str
    source: str
    licence: str
    tokens: list[str] = Field(min_length=1)
    words: dict[str, list[str]]
    medians: dict[str, float]
    without_median: list[str]


@dataclass(frozen=True, slots=True)
class PublishedVocabulary:
    """A published vocabulary and the way back to its numbers.

    Attributes
    ----------
    vocabulary
        In our layout.
    published_ids
        Published id of each of our tokens, -1 for ``<UNKNOWN>``, shape ``(len(vocabulary),)``.
    own_ids
        Our id of each published token, shape ``(n_published,)``.
    """

    vocabulary: Vocabulary
    published_ids: IntArray
    own_ids: IntArray


def load_published(path: Path = PUBLISHED_FILE) -> PublishedVocabulary:
    """Load the published vocabulary of 6,065 tokens.

    Raises
    ------
    SpatialFormerError
        If the file is missing or its tokens, words and medians do not fit together.
    """
    content = validate(_PublishedFile, files.read_json(path), str(path))
    published = {token: i for i, token in enumerate(content.tokens)}
    words = {
        word(name, value): value for name in META_FIELDS for value in content.words.get(name, [])
    }
    apart = {*_SPECIALS, *words.values()}
    genes = tuple(sorted(set(published) - apart))
    wrong = not (set(content.medians) <= set(genes) and apart <= set(published))
    if wrong or len(genes) + len(apart) != len(content.tokens):
        raise SpatialFormerError("Tokens, words and medians do not fit together.", str(path))
    medians = np.array([content.medians.get(gene, 1.0) for gene in genes], np.float32)
    vocabulary = Vocabulary(tuple(sorted(words)), genes, medians)
    names: list[Any] = [words.get(token, token) for token in vocabulary.tokens]
    own = np.array([published.get(name, -1) for name in names], np.int32)
    back = np.full(len(published), -1, np.int32)
    back[own[own >= 0]] = np.flatnonzero(own >= 0)
    if (back < 0).any() or np.flatnonzero(own < 0).tolist() != [UNKNOWN]:
        raise SpatialFormerError("The published tokens are not unique.", where=str(path))
    return PublishedVocabulary(vocabulary, own, back)
