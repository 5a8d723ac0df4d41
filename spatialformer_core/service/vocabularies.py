"""How much of a slide a vocabulary knows: the published one, a checkpoint's, or one in a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.checkpoints import checkpoint_folder

if TYPE_CHECKING:
    from spatialformer_core.slides import Slide
    from spatialformer_core.vocabulary import (
        Coverage,
        CoverageReport,
        GeneMapping,
        GeneNames,
        Vocabulary,
    )


def find_vocabulary(home: Path, name: str) -> Vocabulary:
    """Return a vocabulary: ``published``, the path of a ``vocabulary.json``, or a checkpoint id.

    Raises
    ------
    SpatialFormerError
        If there is none of this name, or it cannot be read.
    """
    from spatialformer_core.vocabulary import PUBLISHED, Vocabulary, load_published

    if name == PUBLISHED:
        return load_published().vocabulary
    if name.endswith(".json"):
        return Vocabulary.load(Path(name))
    try:
        folder = checkpoint_folder(home, name)
    except SpatialFormerError as error:
        raise SpatialFormerError(
            error.message,
            where=error.where,
            fix=f"Say {PUBLISHED!r}, a checkpoint or the path of a vocabulary.json.",
        ) from error
    return Vocabulary.load(folder / "vocabulary.json")


def slide_coverage(
    slide: Slide, vocabulary: Vocabulary, names: GeneNames | None = None
) -> CoverageReport:
    """Report what becomes of each gene of a slide, and of the counts of its analysed cells."""
    from spatialformer_core.vocabulary import coverage_report, map_genes

    mapping = map_genes(slide.genes, vocabulary.genes, names, slide.gene_ids)
    return coverage_report(mapping, slide.counts[slide.passes_qc])


@cache
def _shipped() -> GeneNames:
    return shipped_names()


def spelled_as(slide: Slide, vocabulary: Vocabulary) -> GeneMapping:
    """Return a slide's genes as a vocabulary spells them: by symbol or by Ensembl id."""
    from spatialformer_core.vocabulary import map_genes

    return map_genes(slide.genes, vocabulary.genes, _shipped(), slide.gene_ids)


def known_genes(slide: Slide, vocabulary: Vocabulary) -> Coverage:
    """Return how much of a slide's panel a vocabulary knows, by whatever name."""
    from spatialformer_core.vocabulary import Coverage

    mapping = spelled_as(slide, vocabulary)
    unknown = mapping.of("unknown")
    missing = frozenset(unknown)
    known = tuple(gene for gene in mapping.genes if gene not in missing)
    return Coverage(known, unknown, len(known) / max(1, len(mapping.genes)))


def shipped_names(*, ignore_case: bool = False) -> GeneNames:
    """Return the other names of genes that ship: the Ensembl ids of common panels."""
    from spatialformer_core.vocabulary import SHIPPED_ENSEMBL, read_gene_names

    return read_gene_names(SHIPPED_ENSEMBL, None, ignore_case=ignore_case)
