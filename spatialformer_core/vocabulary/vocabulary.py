"""The vocabulary: which id stands for which gene or sample word, and each gene's median.

Layout: five special tokens, then the sample words (``condition:Healthy``), then the genes in
alphabetical order. A checkpoint carries its vocabulary; the fingerprint ties the two together.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import FloatArray, IntArray
from spatialformer_core.config import FrozenModel, SampleMetadata, validate
from spatialformer_core.errors import SpatialFormerError

SPECIALS = ("<PAD>", "<CLS>", "<MASK>", "<SEP>", "<UNKNOWN>")
PAD, CLS, MASK, SEP, UNKNOWN = range(len(SPECIALS))

META_FIELDS = ("condition", "tissue", "species", "assay")
"""Fields of the sample that become tokens, in the order in which they precede the genes."""

FILE_NAME = "vocabulary.json"
_MAX_TOKENS = 1 << 20
_MAX_NAME = 128

_Name = Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]


class _VocabularyFile(FrozenModel):
    """What ``vocabulary.json`` holds; the file is untrusted."""

    format_version: Literal[1]
    words: list[_Name] = Field(max_length=_MAX_TOKENS)
    genes: list[_Name] = Field(max_length=_MAX_TOKENS)
    medians: list[float] = Field(max_length=_MAX_TOKENS)
    fingerprint: str = Field(min_length=64, max_length=64)


def word(field_name: str, value: str) -> str:
    """Return the token of one sample word, the same for every spelling of its case."""
    return f"{field_name}:{value.strip().casefold()}"


@dataclass(frozen=True)
class Vocabulary:
    """Token ids of special tokens, sample words and genes.

    Parameters
    ----------
    words
        Sample words as `word` spells them, for example ``tissue:lung``; sorted.
    genes
        Gene symbols, sorted.
    gene_medians
        Non-zero median of each gene's counts scaled to 10,000 per cell, positive,
        shape ``(len(genes),)``.

    Attributes
    ----------
    tokens
        All tokens; a token's index is its id.
    medians
        Median of every token, 1.0 for what is no gene, shape ``(len(tokens),)``.
    gene_offset
        Id of the first gene; everything from here to the end is a gene.
    fingerprint
        SHA-256 over tokens and medians.

    Raises
    ------
    SpatialFormerError
        If names repeat or are not sorted, or a median is not a positive number.
    """

    words: tuple[str, ...]
    genes: tuple[str, ...]
    gene_medians: FloatArray
    tokens: tuple[str, ...] = field(init=False)
    medians: FloatArray = field(init=False)
    gene_offset: int = field(init=False)
    fingerprint: str = field(init=False)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    _gene_ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tokens = (*SPECIALS, *self.words, *self.genes)
        offset = len(SPECIALS) + len(self.words)
        gene_medians = np.asarray(self.gene_medians, np.float32)
        _check_names(self.words, self.genes, tokens)
        _check_medians(gene_medians, len(self.genes))
        medians = np.concatenate([np.ones(offset, np.float32), gene_medians])
        medians.setflags(write=False)
        values = {
            "gene_medians": medians[offset:],
            "tokens": tokens,
            "medians": medians,
            "gene_offset": offset,
            "fingerprint": _fingerprint(tokens, medians),
            "_ids": {name: i for i, name in enumerate(tokens[:offset])},
            "_gene_ids": {name: i + offset for i, name in enumerate(self.genes)},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def gene_ids(self, genes: Sequence[str]) -> IntArray:
        """Return the id of each gene, -1 where it is unknown, shape ``(len(genes),)``."""
        return np.array([self._gene_ids.get(str(gene), -1) for gene in genes], np.int32)

    def meta_ids(self, sample: SampleMetadata) -> IntArray:
        """Return the ids of condition, tissue, species and assay, shape ``(4,)``.

        A word that the vocabulary lacks becomes ``<UNKNOWN>``; case is ignored.
        """
        names = [word(name, getattr(sample, name)) for name in META_FIELDS]
        return np.array([self._ids.get(name, UNKNOWN) for name in names], np.int32)

    def unknown_words(self, sample: SampleMetadata) -> tuple[str, ...]:
        """Return the sample's words that would become ``<UNKNOWN>``."""
        names = [word(name, getattr(sample, name)) for name in META_FIELDS]
        return tuple(name for name in names if name not in self._ids)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``vocabulary.json``."""
        return {
            "format_version": 1,
            "words": list(self.words),
            "genes": list(self.genes),
            "medians": [float(value) for value in self.gene_medians],
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, values: Any, where: str = FILE_NAME) -> Vocabulary:
        """Build a vocabulary from untrusted JSON values.

        Raises
        ------
        SpatialFormerError
            If a field is missing or wrong, or the content does not match its fingerprint.
        """
        content = validate(_VocabularyFile, values, where)
        # Beyond the range of float32 a median would become infinite, with a warning on the way.
        if not all(0 < value < 1e30 for value in content.medians):
            raise SpatialFormerError("A gene's median is no positive number.", where=where)
        try:
            medians = np.array(content.medians, np.float32)
            vocabulary = cls(tuple(content.words), tuple(content.genes), medians)
        except SpatialFormerError as error:
            raise SpatialFormerError(error.message, where=where, fix=error.fix) from error
        if vocabulary.fingerprint != content.fingerprint:
            raise SpatialFormerError(
                "The vocabulary does not match its own fingerprint.",
                where=where,
                fix="Restore the file from where it came; it was changed by hand or damaged.",
            )
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary.

        Raises
        ------
        SpatialFormerError
            If the file is missing, no JSON, or not a valid vocabulary.
        """
        return cls.from_json(files.read_json(path), str(path))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a panel a vocabulary knows.

    Attributes
    ----------
    known, unknown
        The panel's genes, in panel order.
    fraction
        Known genes / all genes; 0 for an empty panel.
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    fraction: float


def coverage(genes: Sequence[str], vocabulary: Vocabulary) -> Coverage:
    """Report which of a panel's genes the vocabulary knows."""
    ids = vocabulary.gene_ids(genes)
    known = tuple(str(gene) for gene, i in zip(genes, ids, strict=True) if i >= 0)
    unknown = tuple(str(gene) for gene, i in zip(genes, ids, strict=True) if i < 0)
    return Coverage(known, unknown, len(known) / len(genes) if len(genes) else 0.0)


def _fingerprint(tokens: tuple[str, ...], medians: FloatArray) -> str:
    digest = hashlib.sha256()
    for name in tokens:
        encoded = name.encode("utf-8", "surrogatepass")
        # The length keeps ("ab", "c") apart from ("a", "bc").
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    digest.update(medians.astype("<f4").tobytes())
    return digest.hexdigest()


def _check_names(words: tuple[str, ...], genes: tuple[str, ...], tokens: tuple[str, ...]) -> None:
    for names, what in ((words, "sample words"), (genes, "genes")):
        if list(names) != sorted(names):
            raise SpatialFormerError(f"The vocabulary's {what} are not in alphabetical order.")
    if len(set(tokens)) != len(tokens):
        repeated = sorted(name for name, times in Counter(tokens).items() if times > 1)
        raise SpatialFormerError(
            f"The vocabulary names {len(repeated)} tokens more than once: "
            f"{', '.join(repeated[:5])}.",
            fix="Give every gene one name.",
        )
    bad = [name for name in words if not _is_word(name)]
    if bad:
        raise SpatialFormerError(
            f"The sample word {bad[0]!r} is not of the form 'field:value' in lower case."
        )


def _is_word(name: str) -> bool:
    head, _, value = name.partition(":")
    return head in META_FIELDS and bool(value.strip()) and name == word(head, value)


def _check_medians(medians: FloatArray, n_genes: int) -> None:
    if medians.shape != (n_genes,):
        raise SpatialFormerError(
            f"The vocabulary has {n_genes:,} genes and {medians.size:,} medians."
        )
    if not (np.isfinite(medians) & (medians > 0)).all():
        raise SpatialFormerError("A gene's median is no positive number.")
