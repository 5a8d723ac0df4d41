"""Whether a checkpoint knows enough of a slide's genes to say anything about it."""

from __future__ import annotations

from collections.abc import Sequence

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import Vocabulary, coverage

MIN_COVERAGE = 0.5
"""Share of a slide's genes that a checkpoint's vocabulary must know."""


def require_coverage(name: str, vocabulary: Vocabulary, genes: Sequence[str]) -> float:
    """Return the share of a panel that a vocabulary knows.

    Raises
    ------
    SpatialFormerError
        If it is under a half.
    """
    found = coverage(genes, vocabulary)
    if found.fraction < MIN_COVERAGE:
        missing = ", ".join(found.unknown[:3])
        raise SpatialFormerError(
            f"{name} knows {found.fraction:.0%} of the slide's {len(genes):,} genes, at least "
            f"{MIN_COVERAGE:.0%} are needed (unknown: {missing} ...).",
            fix="Choose a checkpoint trained on this panel; genes go by symbol or Ensembl id.",
        )
    return found.fraction
