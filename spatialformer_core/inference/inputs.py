"""Counts of any origin as the tokens that a checkpoint reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatialformer_core.arrays import CellTokens, IntArray
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.embed import Meta
from spatialformer_core.inference.panel import MIN_COVERAGE
from spatialformer_core.vocabulary import (
    MASK,
    META_FIELDS,
    GeneNames,
    Vocabulary,
    map_genes,
    tokenise,
)


@dataclass(frozen=True, slots=True)
class Panel:
    """Whose cells they are, and what their genes are called.

    Attributes
    ----------
    genes
        Names of the columns of the counts.
    gene_ids
        Ensembl ids beside the names, empty where there is none; None for none at all.
    names
        Tables of other names; None matches names exactly.
    sample
        Condition, tissue, species and assay; None if the meta tokens are masked.
    """

    genes: Sequence[str]
    gene_ids: Sequence[str] | None = None
    names: GeneNames | None = None
    sample: SampleMetadata | None = None


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Cells as a checkpoint reads them.

    Attributes
    ----------
    cells
        Tokens of every cell.
    token_of_column
        Vocabulary id of every column of the counts, -1 where it is unknown.
    facts
        What was recognised and what was left out, JSON.
    """

    cells: CellTokens
    token_of_column: IntArray
    facts: dict[str, Any]


def model_input(
    counts: Any, panel: Panel, vocabulary: Vocabulary, *, name: str, meta: Meta
) -> ModelInput:
    """Spell genes as the vocabulary does and rank each cell's genes.

    Parameters
    ----------
    counts
        Raw counts, scipy CSR ``(n, genes)``.
    panel
        Names of the genes, and what the cells are.
    vocabulary
        The checkpoint's.
    name
        The checkpoint, for messages.
    meta
        Whether the sample's words become tokens or are masked.

    Raises
    ------
    SpatialFormerError
        If the vocabulary knows less than half of the genes while these hold less than half of the
        vocabulary; if the sample is not named and not masked; if the counts are none.
    """
    mapping = map_genes(panel.genes, vocabulary.genes, panel.names, panel.gene_ids)
    ids = vocabulary.gene_ids(mapping.names)
    of_panel = float(np.mean([how != "unknown" for how in mapping.how])) if mapping.how else 0.0
    of_vocabulary = float((ids >= 0).sum()) / max(1, len(vocabulary.genes))
    unknown = mapping.of("unknown")
    _require_overlap(name, (of_panel, of_vocabulary), (len(panel.genes), unknown))
    words = _meta_ids(panel.sample, vocabulary, meta)
    cells, report = tokenise(mapping.counts(counts), ids, vocabulary, words)
    facts = {
        "genes": len(panel.genes),
        "genes_known": len(panel.genes) - len(unknown),
        "share_of_panel_known": of_panel,
        "share_of_vocabulary_measured": of_vocabulary,
        "recognised_by": mapping.tally(),
        "counts_unknown_share": report.unknown_counts / max(1, report.total_counts),
        "cells_without_known_gene": report.empty_cells,
        "meta": meta,
        "unknown_words": list(vocabulary.unknown_words(panel.sample))
        if panel.sample is not None and meta == "given"
        else [],
    }
    return ModelInput(cells, ids[mapping.column], facts)


def _meta_ids(sample: SampleMetadata | None, vocabulary: Vocabulary, meta: Meta) -> IntArray:
    if meta == "masked":
        return np.full(len(META_FIELDS), MASK, np.int32)
    if sample is None:
        raise SpatialFormerError(
            "Condition, tissue, species and assay of the cells are not known.",
            fix="Name the sample, or mask the meta tokens (meta='masked').",
        )
    return vocabulary.meta_ids(sample)


def _require_overlap(
    name: str, shares: tuple[float, float], genes: tuple[int, tuple[str, ...]]
) -> None:
    """Refuse a panel that shares little with the vocabulary.

    A transcriptome knows most of a small vocabulary and is mostly unknown to it; the model then
    sees what it was trained on. A small panel is known to a large vocabulary.
    """
    of_panel, of_vocabulary = shares
    n_genes, unknown = genes
    if max(of_panel, of_vocabulary) >= MIN_COVERAGE:
        return
    raise SpatialFormerError(
        f"{name} knows {of_panel:.0%} of the {n_genes:,} genes, and they hold {of_vocabulary:.0%} "
        f"of the genes that it was trained on; at least {MIN_COVERAGE:.0%} of either are needed "
        f"(unknown: {', '.join(unknown[:3])} ...).",
        fix="Choose a checkpoint trained on such a panel. Genes are recognised by symbol or "
        "Ensembl id; former symbols and letter case need their table or switch.",
    )
