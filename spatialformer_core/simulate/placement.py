"""Where cells lie: dart throwing with a zone-wise spacing, and types by zone."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray, LongArray
from spatialformer_core.simulate.panel import CELL_TYPES, TYPE_INDEX
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.tissue import Tissue, Zone, build_tissue

_DENSITY_PER_MM2 = 3700.0
_CANDIDATES_PER_SLOT = 14
_AIRSPACE_SHARE = 0.0015
_LUMEN_SHARE = 0.0007
_GROWTH = 1.01

SPACING_UM: Final[dict[Zone, float]] = {
    Zone.AIRSPACE: 15.0,
    Zone.SEPTUM: 8.9,
    Zone.AIRWAY_LUMEN: 15.0,
    Zone.LUMINAL_EPITHELIUM: 8.6,
    Zone.BASAL_EPITHELIUM: 8.4,
    Zone.LAMINA: 10.5,
    Zone.AIRWAY_MUSCLE: 10.0,
    Zone.ADVENTITIA: 11.5,
    Zone.FIBROSIS: 10.8,
    Zone.NECROSIS: 0.0,
    Zone.GRANULOMA_CORE: 9.4,
    Zone.GRANULOMA_CUFF: 8.0,
    Zone.GRANULOMA_SEPTUM: 9.2,
    Zone.CAPSULE: 9.5,
    Zone.VESSEL_LUMEN: 0.0,
    Zone.VESSEL_ENDOTHELIUM: 8.8,
    Zone.VESSEL_MUSCLE: 10.0,
}
"""Least distance between centroids in each zone; 0 where there are no cells."""

COMPOSITION: Final[dict[Zone, dict[str, float]]] = {
    Zone.AIRSPACE: {"Alveolar macrophage": 95, "Monocyte": 5},
    Zone.SEPTUM: {
        "AT1": 27, "AT2": 19, "Capillary endothelial": 29, "Alveolar fibroblast": 8, "Pericyte": 5,
        "Macrophage": 2, "T cell": 3, "NK cell": 2, "Monocyte": 2.5, "Mast cell": 0.8,
        "Lymphatic endothelial": 0.7, "Dendritic cell": 0.6, "B cell": 0.4,
    },
    Zone.AIRWAY_LUMEN: {"Alveolar macrophage": 60, "Monocyte": 40},
    Zone.LUMINAL_EPITHELIUM: {"Ciliated": 58, "Club": 27, "Goblet": 15},
    Zone.BASAL_EPITHELIUM: {"Basal": 82, "Club": 7, "T cell": 5, "NK cell": 4, "Mast cell": 2},
    Zone.LAMINA: {
        "Alveolar fibroblast": 38, "Plasma cell": 14, "T cell": 11, "Vascular endothelial": 11,
        "Mast cell": 6, "B cell": 7, "Dendritic cell": 5, "Macrophage": 8,
    },
    Zone.AIRWAY_MUSCLE: {"Smooth muscle": 88, "Alveolar fibroblast": 8, "Vascular endothelial": 4},
    Zone.ADVENTITIA: {
        "Alveolar fibroblast": 50, "Lymphatic endothelial": 12, "Vascular endothelial": 9,
        "Pericyte": 5, "Mast cell": 5, "Macrophage": 7, "T cell": 6, "Plasma cell": 6,
    },
    Zone.FIBROSIS: {
        "Myofibroblast": 43, "Alveolar fibroblast": 10, "AT2": 8, "Basal": 4, "Macrophage": 9,
        "T cell": 6, "Capillary endothelial": 4, "Vascular endothelial": 4, "Smooth muscle": 4,
        "Plasma cell": 4, "Mast cell": 2, "Dendritic cell": 1, "Monocyte": 1,
    },
    Zone.GRANULOMA_CORE: {
        "Macrophage": 69, "T cell": 21, "Dendritic cell": 5, "Monocyte": 4, "NK cell": 1,
    },
    Zone.GRANULOMA_CUFF: {
        "T cell": 62, "Macrophage": 11, "B cell": 9, "NK cell": 7, "Plasma cell": 6,
        "Dendritic cell": 5,
    },
    Zone.GRANULOMA_SEPTUM: {
        "Alveolar fibroblast": 27, "Myofibroblast": 20, "Capillary endothelial": 19,
        "Plasma cell": 11, "B cell": 8, "Mast cell": 6, "Pericyte": 6, "Dendritic cell": 3,
    },
    Zone.CAPSULE: {"Myofibroblast": 68, "Alveolar fibroblast": 22, "Capillary endothelial": 10},
    Zone.VESSEL_ENDOTHELIUM: {"Vascular endothelial": 97, "Monocyte": 3},
    Zone.VESSEL_MUSCLE: {"Smooth muscle": 84, "Pericyte": 12, "Alveolar fibroblast": 4},
}  # fmt: skip
"""Relative frequency of cell types in each zone."""


def place_cells(
    settings: SimulationSettings,
) -> tuple[Tissue, DoubleArray, IntArray]:
    """Lay out a tissue that holds the wanted number of cells, and its cells.

    Returns
    -------
    tissue
        The layout.
    xy_um
        Centroids, shape ``(cells, 2)``, in random order.
    cell_type
        Type codes, shape ``(cells,)``.
    """
    side_um = math.sqrt(settings.cells / _DENSITY_PER_MM2) * 1000
    while True:
        tissue = build_tissue(settings, side_um)
        xy_um = _throw(tissue, stream(settings.seed, "placement"))
        if len(xy_um) >= settings.cells:
            break
        side_um *= math.sqrt(settings.cells / len(xy_um)) * _GROWTH
    xy_um = xy_um[: settings.cells]
    return tissue, xy_um, _draw_types(tissue, xy_um, stream(settings.seed, "types"))


def _throw(tissue: Tissue, rng: np.random.Generator) -> DoubleArray:
    """Return centroids that respect the spacing of their zones, in random order."""
    spacing = np.zeros(len(Zone), np.float32)
    for zone, value in SPACING_UM.items():
        spacing[zone] = value
    smallest = float(spacing[spacing > 0].min())
    n = int(tissue.side_um**2 / smallest**2 * _CANDIDATES_PER_SLOT)
    edge = 6.0
    candidates = rng.uniform(edge, tissue.side_um - edge, (n, 2))
    code = tissue.zone[tissue.pixels(candidates)]
    # Rare cells of the airspace are thinned before they compete for room.
    share = np.where(spacing > 0, 1.0, 0.0)
    share[[Zone.AIRSPACE, Zone.AIRWAY_LUMEN]] = _AIRSPACE_SHARE, _LUMEN_SHARE
    keep = rng.random(n) < share[code]
    candidates, own = candidates[keep], spacing[code[keep]]
    accepted = _accept(candidates, own, tissue.side_um, float(spacing.max()))
    chosen: DoubleArray = candidates[accepted]
    return chosen[rng.permutation(len(chosen))]


@njit(cache=True)
def _accept(
    candidates: DoubleArray, spacing_um: FloatArray, side_um: float, widest_um: float
) -> LongArray:
    """Return the candidates that keep their distance from all accepted before, in order."""
    n_bins = int(side_um / widest_um) + 1
    head = np.full((n_bins, n_bins), -1, np.int64)
    follow = np.full(len(candidates), -1, np.int64)
    accepted = np.empty(len(candidates), np.int64)
    count = 0
    for i in range(len(candidates)):
        x, y = candidates[i]
        row, column = int(y / widest_um), int(x / widest_um)
        free = True
        for r in range(max(0, row - 1), min(n_bins, row + 2)):
            for c in range(max(0, column - 1), min(n_bins, column + 2)):
                j = head[r, c]
                while j >= 0:
                    gap = 0.5 * (spacing_um[i] + spacing_um[j])
                    dx, dy = candidates[j, 0] - x, candidates[j, 1] - y
                    if dx * dx + dy * dy < gap * gap:
                        free = False
                        break
                    j = follow[j]
                if not free:
                    break
            if not free:
                break
        if free:
            follow[i] = head[row, column]
            head[row, column] = i
            accepted[count] = i
            count += 1
    return accepted[:count]


def _draw_types(tissue: Tissue, xy_um: DoubleArray, rng: np.random.Generator) -> IntArray:
    """Return a type code for each cell, drawn from the composition of its zone."""
    table = np.zeros((len(Zone), len(CELL_TYPES)))
    for zone, shares in COMPOSITION.items():
        for name, share in shares.items():
            table[zone, TYPE_INDEX[name]] = share
    # Zones without cells are never looked up; ones keep the division defined.
    total = np.maximum(table.sum(axis=1, keepdims=True), 1e-9)
    cumulative = np.cumsum(table / total, axis=1)
    row = cumulative[tissue.zone[tissue.pixels(xy_um)]]
    drawn = (rng.random(len(xy_um))[:, None] > row).sum(axis=1)
    return np.asarray(np.minimum(drawn, len(CELL_TYPES) - 1), np.int32)
