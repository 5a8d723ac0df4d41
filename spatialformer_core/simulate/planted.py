"""The truth that is planted in every simulated slide, and the decoys beside it.

Co-localised pairs
    Both genes' transcripts gather in one spot of the cell. Their decoys are expressed at the same
    level in the same types, spread over the cell or gathered in a spot of their own.
Contact genes
    Expressed more by one type where a cell of it touches another type: a single-gene effect.
Contact pairs (lock and key)
    Each macrophage expresses exactly one of four programme genes, each T cell exactly one of four
    others. The programme is a property of the place: macrophages and T cells of one lobule share
    it, and septa without either keep the lobules apart. So macrophage k lies beside T cell k and
    hardly ever beside another T cell, while every programme gene is as frequent among near pairs
    as among far ones: neither gene alone says who is near, both together do.
    The decoys have the same levels and the same one-of-four rule, but each cell draws its own.
Zone genes
    Expressed by every type of cell in one zone.
Spillover genes
    Expressed by one type only, strongly; wherever else they are counted, they spilled over.
"""

from __future__ import annotations

from typing import Literal

from spatialformer_core.config import FrozenModel

MACROPHAGE = "Macrophage"
T_CELL = "T cell"
N_PROGRAMMES = 4

TOUCH_UM = 14.0
"""Two cells whose centroids are closer than this touch."""

SPOT_SD_UM = 0.5
"""Spread of a planted spot along each axis."""

SPOT_SHARE = 0.85
"""Share of a planted gene's transcripts that lie in the spot."""


class ColocalisedPair(FrozenModel):
    """Two genes in one spot of the cell, or their decoy (``spread`` or ``own_spots``)."""

    genes: tuple[str, str]
    cell_types: tuple[str, ...]
    placement: Literal["shared_spot", "own_spots", "spread"]
    mean: float


class ContactGene(FrozenModel):
    """A gene that ``cell_type`` expresses ``fold`` times more where it touches ``touching``."""

    gene: str
    cell_type: str
    touching: str
    mean: float
    fold: float


class ContactPair(FrozenModel):
    """A lock and its key; ``linked`` is False for the decoys."""

    gene_left: str
    gene_right: str
    programme: int
    linked: bool
    mean: float
    type_left: str = MACROPHAGE
    type_right: str = T_CELL


class ZoneGene(FrozenModel):
    """A gene that every cell of a zone expresses."""

    gene: str
    zone: Literal["granuloma", "fibrotic focus"]
    mean_inside: float
    mean_outside: float


class SpilloverGene(FrozenModel):
    """A gene that only ``source`` expresses; counts in other types are spillover."""

    gene: str
    source: str
    mean: float


_FIBROBLASTS = ("Alveolar fibroblast", "Myofibroblast")
_MACROPHAGES = ("Alveolar macrophage", "Macrophage")
_LYMPHOCYTES = ("T cell", "NK cell")

_SPOTS: tuple[tuple[tuple[str, ...], float, tuple[str, str], tuple[str, str]], ...] = (
    (("AT2",), 5.0, ("LAMP3", "NAPSA"), ("PEBP4", "SFTPD")),
    (("Ciliated",), 5.0, ("FOXJ1", "DNAAF1"), ("C20orf85", "CFAP53")),
    (("Capillary endothelial",), 5.0, ("PECAM1", "CLDN5"), ("EGFL7", "RAMP2")),
    (_FIBROBLASTS, 5.0, ("COL1A2", "FBN1"), ("COL5A2", "LTBP2")),
    (_MACROPHAGES, 5.0, ("CD163", "MRC1"), ("CD68", "AIF1")),
    (_LYMPHOCYTES, 5.0, ("CD2", "CD247"), ("CCL5", "PTPRC")),
    ((), 3.5, ("MYC", "ZMIZ1"), ("FOXP1", "MEF2C")),
)

COLOCALISED_PAIRS: tuple[ColocalisedPair, ...] = tuple(
    ColocalisedPair(genes=pair, cell_types=types, placement="shared_spot", mean=mean)
    for types, mean, pair, _ in _SPOTS
)

COLOCALISATION_DECOYS: tuple[ColocalisedPair, ...] = tuple(
    ColocalisedPair(
        genes=decoy,
        cell_types=types,
        placement="own_spots" if k % 2 else "spread",
        mean=mean,
    )
    for k, (types, mean, _, decoy) in enumerate(_SPOTS)
)

CONTACT_GENES: tuple[ContactGene, ...] = (
    ContactGene(gene="CXCL10", cell_type="Macrophage", touching="T cell", mean=0.6, fold=6),
    ContactGene(gene="IFNG", cell_type="T cell", touching="Macrophage", mean=0.5, fold=6),
    ContactGene(gene="EDN1", cell_type="Capillary endothelial", touching="AT1", mean=0.6, fold=6),
    ContactGene(gene="CXCL12", cell_type="Alveolar fibroblast", touching="AT2", mean=0.6, fold=6),
    ContactGene(gene="MMP7", cell_type="AT2", touching="Myofibroblast", mean=0.5, fold=7),
)

PROGRAMME_MEAN = 5.0

CONTACT_PAIRS: tuple[ContactPair, ...] = tuple(
    ContactPair(gene_left=left, gene_right=right, programme=k, linked=True, mean=PROGRAMME_MEAN)
    for k, (left, right) in enumerate(
        (("CD274", "PDCD1"), ("CD86", "CTLA4"), ("CD40", "CD40LG"), ("SPP1", "CD44"))
    )
)

CONTACT_PAIR_DECOYS: tuple[ContactPair, ...] = tuple(
    ContactPair(gene_left=left, gene_right=right, programme=k, linked=False, mean=PROGRAMME_MEAN)
    for k, (left, right) in enumerate(
        (("TREM2", "TNFRSF9"), ("MMP9", "GZMK"), ("PLA2G7", "SLAMF1"), ("CHIT1", "LAG3"))
    )
)

ZONE_GENES: tuple[ZoneGene, ...] = (
    ZoneGene(gene="STAT1", zone="granuloma", mean_inside=4.0, mean_outside=0.2),
    ZoneGene(gene="ICAM1", zone="granuloma", mean_inside=4.0, mean_outside=0.2),
    ZoneGene(gene="FAS", zone="granuloma", mean_inside=3.0, mean_outside=0.15),
    ZoneGene(gene="GEM", zone="granuloma", mean_inside=3.0, mean_outside=0.15),
    ZoneGene(gene="TGFB1", zone="fibrotic focus", mean_inside=4.0, mean_outside=0.2),
    ZoneGene(gene="GDF15", zone="fibrotic focus", mean_inside=3.5, mean_outside=0.2),
    ZoneGene(gene="SNAI1", zone="fibrotic focus", mean_inside=3.0, mean_outside=0.15),
)

SPILLOVER_GENES: tuple[SpilloverGene, ...] = (
    SpilloverGene(gene="SFTPC", source="AT2", mean=14.0),
    SpilloverGene(gene="JCHAIN", source="Plasma cell", mean=16.0),
    SpilloverGene(gene="COL1A1", source="Myofibroblast", mean=14.0),
    SpilloverGene(gene="CPA3", source="Mast cell", mean=12.0),
    SpilloverGene(gene="SCGB1A1", source="Club", mean=14.0),
)


def planted_genes() -> frozenset[str]:
    """Return every gene whose expression the planted truth decides."""
    spots = COLOCALISED_PAIRS + COLOCALISATION_DECOYS
    pairs = CONTACT_PAIRS + CONTACT_PAIR_DECOYS
    genes = {gene for spot in spots for gene in spot.genes}
    genes |= {pair.gene_left for pair in pairs} | {pair.gene_right for pair in pairs}
    genes |= {rule.gene for rule in CONTACT_GENES} | {rule.gene for rule in ZONE_GENES}
    return frozenset(genes | {rule.gene for rule in SPILLOVER_GENES})
