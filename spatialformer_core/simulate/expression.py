"""How many transcripts of which gene each cell makes.

The profile of a cell type is the same in every slide (it comes from a seed of its own), a donor
adds gene-wise random effects, and a cell its size, its neighbours, its zone and its programme.
Counts are gamma-Poisson.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import CELL_TYPES, TYPE_INDEX, Panel, load_panel
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.tissue import GRANULOMA_ZONES, Tissue, Zone

_PROFILE_SEED: Final = 20_251_121
_TRANSCRIPTS_PER_CELL = 128.0
_OVERDISPERSION_SHAPE = 8.0
_DONOR_SD = 0.12
_SIZE_SD = 0.36
_CYCLING_SHARE = 0.03
_CYCLING_MEAN = 2.5
_OFF_MEAN = 0.06
_LEAK_MEDIAN = 0.14
_CHUNK_CELLS = 20_000

# RNA content of a type relative to the mean cell.
_CONTENT: Final[dict[str, float]] = {
    "AT1": 0.85,
    "AT2": 1.15,
    "Ciliated": 1.1,
    "Club": 1.2,
    "Goblet": 1.2,
    "Capillary endothelial": 0.9,
    "Pericyte": 0.85,
    "Myofibroblast": 1.2,
    "Alveolar macrophage": 1.35,
    "Macrophage": 1.3,
    "Dendritic cell": 1.1,
    "Monocyte": 0.9,
    "T cell": 0.8,
    "NK cell": 0.8,
    "B cell": 0.75,
    "Plasma cell": 1.15,
}


@dataclass(frozen=True, slots=True)
class CellStates:
    """What decides a cell's expression beside its type.

    Attributes
    ----------
    programme, decoy_programme
        Which of the four programme genes a macrophage or T cell expresses, -1 for other types,
        shape ``(n,)``. The first is decided by the place, the second drawn by each cell alone.
    zone
        `Zone` of each cell, shape ``(n,)``.
    structure
        Index of the structure that holds the cell, -1 for none, shape ``(n,)``.
    touching
        For each contact gene whether a cell of its type touches the other type, ``(n, rules)``.
    cycling
        Whether a cell divides, shape ``(n,)``.
    """

    programme: IntArray
    decoy_programme: IntArray
    zone: IntArray
    structure: IntArray
    touching: BoolArray
    cycling: BoolArray


def touching_pairs(xy_um: DoubleArray) -> IntArray:
    """Return the pairs of cells that touch, each once and sorted, shape ``(m, 2)``."""
    pairs = cKDTree(xy_um).query_pairs(planted.TOUCH_UM, output_type="ndarray")
    pairs.sort(axis=1)
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], np.int32)


def draw_states(
    settings: SimulationSettings,
    tissue: Tissue,
    xy_um: DoubleArray,
    cell_type: IntArray,
    pairs: IntArray,
) -> CellStates:
    """Return the state of every cell.

    Parameters
    ----------
    settings, tissue
        Seed, whether relations are planted, and the layout.
    xy_um, cell_type
        Centroids ``(n, 2)`` and type codes ``(n,)``.
    pairs
        Touching pairs, shape ``(m, 2)``.
    """
    rng = stream(settings.seed, "states")
    n = len(xy_um)
    pixels = tissue.pixels(xy_um)
    alone, local = rng.integers(0, planted.N_PROGRAMMES, (2, n))
    is_healthy = settings.effects is not None and settings.effects.condition == "healthy"
    if settings.planted and not is_healthy:
        local = tissue.programme[pixels].astype(np.int64)
    has_programme = np.isin(cell_type, [TYPE_INDEX[planted.MACROPHAGE], TYPE_INDEX[planted.T_CELL]])
    touching = np.zeros((n, len(planted.CONTACT_GENES)), np.bool_)
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    for column, rule in enumerate(planted.CONTACT_GENES):
        hit = (cell_type[both_ways[:, 0]] == TYPE_INDEX[rule.cell_type]) & (
            cell_type[both_ways[:, 1]] == TYPE_INDEX[rule.touching]
        )
        touching[both_ways[hit, 0], column] = True
    return CellStates(
        programme=np.where(has_programme, local, -1).astype(np.int32),
        decoy_programme=np.where(has_programme, alone, -1).astype(np.int32),
        zone=tissue.zone[pixels].astype(np.int32),
        structure=tissue.structure[pixels].astype(np.int32),
        touching=touching,
        cycling=rng.random(n) < _CYCLING_SHARE,
    )


@cache
def type_profiles(focus: float = 1.0) -> FloatArray:
    """Return mean transcripts of every gene in every type at depth 1, shape ``(types, genes)``.

    Planted levels are as listed in ``planted.py``; the rest of a type is scaled so that its total
    fits its RNA content.

    Parameters
    ----------
    focus
        Power that the levels that are not planted are raised to: above 1, fewer genes make up a
        cell.
    """
    panel = load_panel()
    rng = stream(_PROFILE_SEED, "profiles")
    shape = (len(CELL_TYPES), panel.n_genes)
    broad_level = rng.lognormal(np.log(0.45), 0.5, panel.n_genes)
    profile = _LEAK_MEDIAN * rng.lognormal(0, 0.7, shape)
    marker_level = rng.lognormal(np.log(1.9), 0.4, shape)
    modulation = rng.lognormal(0, 0.55, shape)
    for column, roles in enumerate(panel.roles):
        if "broad" in roles:
            profile[:, column] = broad_level[column] * modulation[:, column]
        for role in roles:
            if role in TYPE_INDEX:
                profile[TYPE_INDEX[role], column] = marker_level[TYPE_INDEX[role], column]
    planted_columns = np.array(sorted(panel.index(gene) for gene in planted.planted_genes()))
    profile[:, planted_columns] = 0
    _plant_levels(profile, panel)
    free = np.ones(panel.n_genes, np.bool_)
    free[planted_columns] = False
    content = np.array([_CONTENT.get(name, 1.0) for name in CELL_TYPES])
    fixed = profile[:, ~free].sum(axis=1)
    # One of four programmes is on in macrophages and T cells, and so is one of their decoys.
    fixed += 2 * planted.PROGRAMME_MEAN * np.isin(CELL_TYPES, [planted.MACROPHAGE, planted.T_CELL])
    profile[:, free] **= focus
    room = np.maximum(_TRANSCRIPTS_PER_CELL * content - fixed, 20)
    profile[:, free] *= (room / profile[:, free].sum(axis=1))[:, None]
    result = profile.astype(np.float32)
    result.flags.writeable = False
    return result


def _plant_levels(profile: DoubleArray, panel: Panel) -> None:
    """Write the levels of planted genes that depend on the type alone."""
    for spot in planted.COLOCALISED_PAIRS + planted.COLOCALISATION_DECOYS:
        for gene in spot.genes:
            column = panel.index(gene)
            profile[:, column] = np.maximum(profile[:, column], _OFF_MEAN)
            for name in spot.cell_types or CELL_TYPES:
                profile[TYPE_INDEX[name], column] = spot.mean
    for pair in planted.CONTACT_PAIRS + planted.CONTACT_PAIR_DECOYS:
        for gene in (pair.gene_left, pair.gene_right):
            profile[:, panel.index(gene)] = _OFF_MEAN / 2
    for contact in planted.CONTACT_GENES:
        profile[:, panel.index(contact.gene)] = _OFF_MEAN
        profile[TYPE_INDEX[contact.cell_type], panel.index(contact.gene)] = contact.mean
    for rule in planted.ZONE_GENES:
        profile[:, panel.index(rule.gene)] = rule.mean_outside
    for source in planted.SPILLOVER_GENES:
        profile[TYPE_INDEX[source.source], panel.index(source.gene)] = source.mean


def donor_levels(donor: str) -> DoubleArray:
    """Return the factor of each gene in a donor's cells, shape ``(n_genes,)``.

    Decided by the name alone: the same donor has the same levels on every slide.
    """
    rng = stream(_PROFILE_SEED, "donor", donor)
    return rng.lognormal(0, _DONOR_SD, load_panel().n_genes)


def transcripts_made(
    settings: SimulationSettings, cell_type: IntArray, area_um2: FloatArray, states: CellStates
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield, for one run of cells after the other, who made which transcript.

    Parameters
    ----------
    settings
        Seed, donor, depth and whether relations are planted.
    cell_type, area_um2
        Type code and area of each cell, shape ``(n,)``.
    states
        State of each cell.

    Yields
    ------
    cell, gene
        Cell and gene column of each transcript, in ascending order of both, shape ``(m,)``.
    """
    panel = load_panel()
    profile = type_profiles(settings.focus) * donor_levels(settings.donor).astype(np.float32)
    strength = 1.0 if settings.effects is None else settings.effects.contact_strength
    for name, fold in (settings.effects.disease_folds if settings.effects else {}).items():
        profile[:, panel.index(name)] *= np.float32(fold)
    mean_area = np.bincount(cell_type, area_um2, len(CELL_TYPES)) / np.maximum(
        np.bincount(cell_type, minlength=len(CELL_TYPES)), 1
    )
    for first in range(0, len(cell_type), _CHUNK_CELLS):
        rng = stream(settings.seed, "counts", str(first // _CHUNK_CELLS))
        rows = slice(first, first + _CHUNK_CELLS)
        size = rng.lognormal(-(_SIZE_SD**2) / 2, _SIZE_SD, len(cell_type[rows]))
        size *= np.sqrt(area_um2[rows] / mean_area[cell_type[rows]])
        mean = profile[cell_type[rows]]
        _apply_states(mean, states, rows, strength=strength if settings.planted else None)
        _apply_programmes(mean, cell_type[rows], states, rows)
        mean *= (settings.depth * size).astype(np.float32)[:, None]
        noise = rng.standard_gamma(_OVERDISPERSION_SHAPE, mean.shape, np.float32)
        counts = rng.poisson(mean * noise / np.float32(_OVERDISPERSION_SHAPE))
        cell, gene = np.nonzero(counts)
        copies = counts[cell, gene]
        yield (
            np.repeat(cell + first, copies).astype(np.int32),
            np.repeat(gene, copies).astype(np.int32),
        )


def _apply_states(
    mean: FloatArray, states: CellStates, rows: slice, *, strength: float | None
) -> None:
    """Change the mean expression ``(cells, genes)`` of one run of cells in place.

    ``strength`` is the power of the contact genes' folds, None without any relation.
    """
    panel = load_panel()
    zone = states.zone[rows]
    inside = {
        "granuloma": np.isin(zone, GRANULOMA_ZONES),
        "fibrotic focus": zone == Zone.FIBROSIS,
    }
    for rule in planted.ZONE_GENES:
        mean[inside[rule.zone], panel.index(rule.gene)] *= rule.mean_inside / rule.mean_outside
    for column, contact in enumerate(planted.CONTACT_GENES):
        if strength is not None:
            touched = states.touching[rows, column]
            mean[touched, panel.index(contact.gene)] *= contact.fold**strength
    for column, roles in enumerate(panel.roles):
        if "cycle" in roles:
            mean[states.cycling[rows], column] = _CYCLING_MEAN


def _apply_programmes(
    mean: FloatArray, cell_type: IntArray, states: CellStates, rows: slice
) -> None:
    """Switch on one lock or key, and one of the decoys, in each macrophage and T cell."""
    panel = load_panel()
    for pair in planted.CONTACT_PAIRS + planted.CONTACT_PAIR_DECOYS:
        programme = (states.programme if pair.linked else states.decoy_programme)[rows]
        for gene, name in ((pair.gene_left, pair.type_left), (pair.gene_right, pair.type_right)):
            on = (cell_type == TYPE_INDEX[name]) & (programme == pair.programme)
            column = panel.index(gene)
            mean[on, column] *= pair.mean / (_OFF_MEAN / 2)
