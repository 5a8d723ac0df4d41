"""The gene panel: real human symbols and Ensembl ids, and the cell types that they mark.

``panel.csv`` holds one row per gene: ``symbol,ensembl,roles``; roles are the cell types that the
gene marks, ``cycle`` (dividing cells), ``broad`` (expressed everywhere at a low level) or nothing
(its expression is planted, see ``planted.py``). Symbols and ids are public nomenclature; which
types express a gene follows textbook lung markers, the levels are made up.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

CELL_TYPES: tuple[str, ...] = (
    "AT1",
    "AT2",
    "Ciliated",
    "Club",
    "Goblet",
    "Basal",
    "Capillary endothelial",
    "Vascular endothelial",
    "Lymphatic endothelial",
    "Smooth muscle",
    "Pericyte",
    "Alveolar fibroblast",
    "Myofibroblast",
    "Alveolar macrophage",
    "Macrophage",
    "Dendritic cell",
    "Monocyte",
    "T cell",
    "NK cell",
    "B cell",
    "Plasma cell",
    "Mast cell",
)
"""Cell types; the index is the type code everywhere in this room."""

TYPE_INDEX: dict[str, int] = {name: code for code, name in enumerate(CELL_TYPES)}

N_PROBE_CONTROLS = 20
N_CODEWORD_CONTROLS = 41
N_UNASSIGNED_CODEWORDS = 60


@dataclass(frozen=True, slots=True)
class Panel:
    """Genes in column order, then the controls.

    Attributes
    ----------
    genes, ensembl
        Symbol and Ensembl id of each gene.
    roles
        Cell types that each gene marks, or ``cycle`` or ``broad``.
    controls
        Name and feature type of each control, as in the instrument's own output.
    """

    genes: tuple[str, ...]
    ensembl: tuple[str, ...]
    roles: tuple[tuple[str, ...], ...]
    controls: tuple[tuple[str, str], ...]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def features(self) -> tuple[str, ...]:
        """Gene symbols, then names of controls."""
        return self.genes + tuple(name for name, _ in self.controls)

    def index(self, gene: str) -> int:
        """Return the column of a gene."""
        return _columns()[gene]

    def columns(self, genes: tuple[str, ...] | list[str]) -> list[int]:
        """Return the columns of several genes."""
        return [self.index(gene) for gene in genes]


def _controls() -> tuple[tuple[str, str], ...]:
    probes = [
        (f"NegControlProbe_{k:05d}", "Negative Control Probe") for k in range(N_PROBE_CONTROLS)
    ]
    codewords = [
        (f"NegControlCodeword_{500 + k:04d}", "Negative Control Codeword")
        for k in range(N_CODEWORD_CONTROLS)
    ]
    unassigned = [
        (f"UnassignedCodeword_{k:04d}", "Unassigned Codeword")
        for k in range(N_UNASSIGNED_CODEWORDS)
    ]
    return tuple(probes + codewords + unassigned)


@cache
def load_panel() -> Panel:
    """Read the packaged panel."""
    text = resources.files("spatialformer_core.simulate").joinpath("panel.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return Panel(
        genes=tuple(row["symbol"] for row in rows),
        ensembl=tuple(row["ensembl"] for row in rows),
        roles=tuple(tuple(role for role in row["roles"].split("|") if role) for row in rows),
        controls=_controls(),
    )


@cache
def _columns() -> dict[str, int]:
    return {gene: column for column, gene in enumerate(load_panel().genes)}
