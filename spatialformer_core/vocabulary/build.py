"""Building a vocabulary from the slides that a model is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatialformer_core.arrays import FloatArray, LongArray
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary.vocabulary import META_FIELDS, Vocabulary, word

TARGET_SUM = 10_000.0
"""Counts per cell after scaling; medians are medians of these scaled values."""


def build_vocabulary(
    panels: Iterable[tuple[Sequence[str], Any]], samples: Sequence[SampleMetadata]
) -> Vocabulary:
    """Build the vocabulary of the union of several slides' panels.

    Parameters
    ----------
    panels
        Per slide its gene names and its raw counts, a scipy sparse matrix ``(n_cells, n_genes)``
        of the cells that the vocabulary may be fitted on (QC cells of the training split).
    samples
        What the slides are; their words become tokens.

    Returns
    -------
    Vocabulary
        Genes in alphabetical order with the median over all slides' cells of their non-zero
        counts, scaled to 10,000 per cell; 1.0 for a gene that no cell expresses.

    Raises
    ------
    SpatialFormerError
        If a panel repeats a gene, or its names and counts differ in length.
    """
    slides: list[_Values] = []
    union: set[str] = set()
    for genes, counts in panels:
        if len(genes) != counts.shape[1]:
            raise SpatialFormerError(
                f"The panel names {len(genes):,} genes, the counts have {counts.shape[1]:,}."
            )
        column_of = {str(gene): column for column, gene in enumerate(genes)}
        if len(column_of) != len(genes):
            raise SpatialFormerError(
                "The panel names a gene more than once.",
                fix="Sum the counts of equal genes or rename them.",
            )
        union.update(column_of)
        slides.append(_scaled(column_of, counts))
    names = tuple(sorted(union))
    medians = np.array([_median([slide.of(name) for slide in slides]) for name in names])
    words = {word(name, getattr(sample, name)) for sample in samples for name in META_FIELDS}
    return Vocabulary(tuple(sorted(words)), names, medians.astype(np.float32))


@dataclass(frozen=True, slots=True)
class _Values:
    """Scaled non-zero values of one slide, column by column: four bytes per value are held."""

    column_of: dict[str, int]
    starts: LongArray
    values: FloatArray

    def of(self, gene: str) -> FloatArray:
        column = self.column_of.get(gene)
        if column is None:
            return self.values[:0]
        return self.values[self.starts[column] : self.starts[column + 1]]


def _scaled(column_of: dict[str, int], counts: Any) -> _Values:
    entries = counts.tocoo()
    positive = entries.data > 0
    row, column = entries.row[positive], entries.col[positive]
    data = entries.data[positive].astype(np.float64)
    totals = np.bincount(row, weights=data, minlength=counts.shape[0])
    values = (data * (TARGET_SUM / totals[row])).astype(np.float32)
    starts = np.zeros(len(column_of) + 1, np.int64)
    np.cumsum(np.bincount(column, minlength=len(column_of)), out=starts[1:])
    return _Values(column_of, starts, values[np.argsort(column, kind="stable")])


def _median(parts: list[FloatArray]) -> float:
    """Return the median of all values, 1.0 if there are none."""
    values = np.sort(np.concatenate(parts))
    if not len(values):
        return 1.0
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    return 0.5 * (float(low) + float(high))
