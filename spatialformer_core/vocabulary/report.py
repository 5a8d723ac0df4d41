"""How much of a panel, and of its counts, a vocabulary knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary.mapping import HOWS, GeneMapping


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """What became of each gene of a panel.

    Attributes
    ----------
    genes
        The panel's names per way of recognition: ``exact``, ``ensembl``, ``alias``, ``case``,
        ``unknown``.
    count_shares
        Share of all counts that these genes hold; all 0 where nothing was counted.
    merged
        Names that several columns stand for.
    """

    genes: dict[str, tuple[str, ...]]
    count_shares: dict[str, float]
    merged: tuple[str, ...]

    @property
    def n_genes(self) -> int:
        """Columns of the panel."""
        return sum(len(names) for names in self.genes.values())

    @property
    def fraction(self) -> float:
        """Known columns / all columns."""
        return 1 - len(self.genes["unknown"]) / self.n_genes if self.n_genes else 0.0

    @property
    def counts_fraction(self) -> float:
        """Share of the counts that belong to known genes."""
        return sum(share for how, share in self.count_shares.items() if how != "unknown")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "n_genes": self.n_genes,
            "fraction": self.fraction,
            "counts_fraction": self.counts_fraction,
            "genes": {how: list(names) for how, names in self.genes.items()},
            "count_shares": self.count_shares,
            "merged": list(self.merged),
        }


def coverage_report(mapping: GeneMapping, counts: Any) -> CoverageReport:
    """Report a panel's coverage.

    Parameters
    ----------
    mapping
        The panel against the vocabulary.
    counts
        Raw counts with the panel's columns, scipy sparse ``(n_cells, n_genes)``.
    """
    per_column = np.asarray(counts.sum(axis=0), np.float64).ravel()
    if len(per_column) != len(mapping.genes):
        raise SpatialFormerError(
            f"The panel names {len(mapping.genes):,} genes, the counts have {len(per_column):,}."
        )
    how = np.array(mapping.how, np.str_)
    total = per_column.sum() or 1.0
    return CoverageReport(
        genes={h: mapping.of(h) for h in HOWS},
        count_shares={h: float(per_column[how == h].sum() / total) for h in HOWS},
        merged=mapping.merged,
    )
