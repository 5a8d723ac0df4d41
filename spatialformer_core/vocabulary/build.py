"""Building a vocabulary from the slides that a model is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
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
    columns: list[tuple[Sequence[str], LongArray, FloatArray]] = []
    union: set[str] = set()
    for genes, counts in panels:
        if len(genes) != counts.shape[1]:
            raise SpatialFormerError(
                f"The panel names {len(genes):,} genes, the counts have {counts.shape[1]:,}."
            )
        if len(set(genes)) != len(genes):
            raise SpatialFormerError(
                "The panel names a gene more than once.",
                fix="Sum the counts of equal genes or rename them.",
            )
        union.update(str(gene) for gene in genes)
        columns.append((genes, *_scaled(counts)))
    names = tuple(sorted(union))
    rank = {name: i for i, name in enumerate(names)}
    gene = [np.array([rank[str(g)] for g in genes], np.int64)[at] for genes, at, _ in columns]
    value = [values for _, _, values in columns]
    medians = _grouped_medians(
        np.concatenate([np.zeros(0, np.int64), *gene]),
        np.concatenate([np.zeros(0, np.float32), *value]),
        len(names),
    )
    words = {word(name, getattr(sample, name)) for sample in samples for name in META_FIELDS}
    return Vocabulary(tuple(sorted(words)), names, medians.astype(np.float32))


def _scaled(counts: Any) -> tuple[LongArray, FloatArray]:
    """Return gene column and scaled value of every non-zero entry."""
    entries = counts.tocoo()
    positive = entries.data > 0
    row, column = entries.row[positive], entries.col[positive]
    data = entries.data[positive].astype(np.float64)
    totals = np.bincount(row, weights=data, minlength=counts.shape[0])
    return column.astype(np.int64), (data * (TARGET_SUM / totals[row])).astype(np.float32)


def _grouped_medians(group: LongArray, value: FloatArray, n_groups: int) -> DoubleArray:
    """Return the median of the values of each group, 1.0 for an empty group."""
    order = np.lexsort((value, group))
    ordered = value[order].astype(np.float64)
    sizes = np.bincount(group, minlength=n_groups)
    starts = np.cumsum(sizes) - sizes
    medians = np.ones(n_groups)
    filled = np.flatnonzero(sizes)
    low = starts[filled] + (sizes[filled] - 1) // 2
    high = starts[filled] + sizes[filled] // 2
    medians[filled] = 0.5 * (ordered[low] + ordered[high])
    return medians
