"""The layout of a lung-like tissue as a raster of zones.

Alveoli are the cells of a Voronoi foam whose walls are the alveolar septa. Airways (lumen, two
epithelial layers, muscle, adventitia), vessels, fibrotic foci and granulomas (necrotic centre,
macrophage core, T-cell cuff, fibrous capsule, radial septa between lobules) are discs with a
wavy outline laid over the foam, well apart from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray
from spatialformer_core.simulate.planted import N_PROGRAMMES
from spatialformer_core.simulate.settings import SimulationSettings, stream

RESOLUTION_UM: Final = 2.0
"""Pixel size of the zone raster."""

_ALVEOLUS_UM = 104.0
_SEPTUM_HALF_WIDTH_UM = 8.0
_LOBULE_UM = 120.0
_LOBULE_SEPTUM_HALF_WIDTH_UM = 10.0


class Zone(IntEnum):
    """What a place in the tissue is."""

    AIRSPACE = 0
    SEPTUM = 1
    AIRWAY_LUMEN = 2
    LUMINAL_EPITHELIUM = 3
    BASAL_EPITHELIUM = 4
    LAMINA = 5
    AIRWAY_MUSCLE = 6
    ADVENTITIA = 7
    FIBROSIS = 8
    NECROSIS = 9
    GRANULOMA_CORE = 10
    GRANULOMA_CUFF = 11
    GRANULOMA_SEPTUM = 12
    CAPSULE = 13
    VESSEL_LUMEN = 14
    VESSEL_ENDOTHELIUM = 15
    VESSEL_MUSCLE = 16


GRANULOMA_ZONES: Final = (
    Zone.NECROSIS,
    Zone.GRANULOMA_CORE,
    Zone.GRANULOMA_CUFF,
    Zone.GRANULOMA_SEPTUM,
    Zone.CAPSULE,
)
"""Zones that make up a granuloma."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A disc-shaped structure: kind, centre and radius in um."""

    kind: str
    x_um: float
    y_um: float
    radius_um: float


@dataclass(frozen=True, slots=True)
class Tissue:
    """Zones of a square field of view.

    Attributes
    ----------
    side_um
        Side of the field.
    zone
        `Zone` of each raster pixel, uint8, shape ``(h, w)``.
    angle
        Direction in which flat cells lie, radians, shape ``(h, w)``.
    programme
        Contact programme of macrophages and T cells at each pixel, int8, shape ``(h, w)``.
    structure
        Index into ``structures`` of each pixel, -1 in the foam, int16, shape ``(h, w)``.
    structures
        Airways, granulomas, fibrotic foci and vessels.
    """

    side_um: float
    zone: NDArray[np.uint8]
    angle: NDArray[np.float32]
    programme: NDArray[np.int8]
    structure: NDArray[np.int16]
    structures: tuple[Structure, ...]

    def pixels(self, xy_um: DoubleArray) -> tuple[IntArray, IntArray]:
        """Return row and column of the raster pixel of each point, shape ``(n, 2)`` in."""
        limit = self.zone.shape[0] - 1
        index = np.clip((xy_um / RESOLUTION_UM).astype(np.int32), 0, limit)
        return index[:, 1], index[:, 0]

    def of_kind(self, kind: str) -> list[Structure]:
        """Return the structures of one kind."""
        return [structure for structure in self.structures if structure.kind == kind]


def build_tissue(settings: SimulationSettings, side_um: float) -> Tissue:
    """Lay out the tissue of a slide.

    Parameters
    ----------
    settings
        Seed and number of granulomas.
    side_um
        Side of the field of view.
    """
    rng = stream(settings.seed, "tissue")
    structures = place_structures(settings, side_um, rng)
    size = int(np.ceil(side_um / RESOLUTION_UM))
    axis = ((np.arange(size) + 0.5) * RESOLUTION_UM).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    zone, angle = _foam(x, y, side_um, rng)
    layers = _Layers(
        x=x + _waves(x, y, 9.0, rng),
        y=y + _waves(x, y, 9.0, rng),
        zone=zone,
        angle=angle,
        programme=_lobules(x, y, side_um, rng),
        structure=np.full(zone.shape, -1, np.int16),
    )
    paint = {
        "airway": _paint_airway,
        "fibrotic focus": _paint_focus,
        "vessel": _paint_vessel,
        "granuloma": _paint_granuloma,
    }
    for index, structure in enumerate(structures):
        paint[structure.kind](layers, index, structure, rng)
    return Tissue(
        side_um, layers.zone, layers.angle, layers.programme, layers.structure, structures
    )


@dataclass(frozen=True, slots=True)
class _Layers:
    """The rasters while they are painted; ``x`` and ``y`` are warped coordinates."""

    x: FloatArray
    y: FloatArray
    zone: NDArray[np.uint8]
    angle: NDArray[np.float32]
    programme: NDArray[np.int8]
    structure: NDArray[np.int16]

    def window(self, structure: Structure) -> tuple[slice, slice]:
        """Return the raster window that holds a structure whole."""
        reach = structure.radius_um * 1.35 + 25
        size = self.zone.shape[0]

        def span(centre: float) -> slice:
            first = max(0, int((centre - reach) / RESOLUTION_UM))
            return slice(first, min(size, int((centre + reach) / RESOLUTION_UM) + 1))

        return span(structure.y_um), span(structure.x_um)


def _waves(
    x: FloatArray, y: FloatArray, amplitude_um: float, rng: np.random.Generator
) -> FloatArray:
    """Return a smooth random field (sum of plane waves), shape of ``x``."""
    total = np.zeros_like(x)
    for wavelength in (55.0, 80.0, 130.0, 210.0):
        direction, phase = rng.uniform(0, 2 * np.pi, 2)
        k = 2 * np.pi / wavelength
        wave = np.sin(
            np.float32(k * np.cos(direction)) * x
            + np.float32(k * np.sin(direction)) * y
            + np.float32(phase)
        )
        total += wave * np.float32(amplitude_um * wavelength / 300)
    return total


def place_structures(
    settings: SimulationSettings, side_um: float, rng: np.random.Generator
) -> tuple[Structure, ...]:
    """Scatter the structures with wide gaps between them."""
    shrink = min(1.0, side_um / 900)
    share = settings.cells / 20_000
    wanted = [
        *[("granuloma", rng.uniform(100, 128) * shrink) for _ in range(settings.n_granulomas)],
        *[("airway", rng.uniform(105, 165) * shrink) for _ in range(max(1, round(4 * share)))],
        *[("fibrotic focus", rng.uniform(110, 165) * shrink)
          for _ in range(max(1, round(4 * share)))],
        *[("vessel", rng.uniform(38, 62) * shrink) for _ in range(max(1, round(7 * share)))],
    ]  # fmt: skip
    placed: list[Structure] = []
    for kind, radius in wanted:
        x, y = _best_spot(kind, radius, side_um, placed, rng)
        placed.append(Structure(kind, x, y, radius))
    return tuple(placed)


def _best_spot(
    kind: str,
    radius_um: float,
    side_um: float,
    placed: list[Structure],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the first of 600 random places with a wide enough gap, else the widest."""
    margin = min(radius_um + 20, side_um / 2 - 1)
    candidates = rng.uniform(margin, side_um - margin, (600, 2))
    clearance = np.full(len(candidates), np.inf)
    for other in placed:
        gap = 170.0 if kind == other.kind == "granuloma" else 35.0
        distance = np.hypot(candidates[:, 0] - other.x_um, candidates[:, 1] - other.y_um)
        clearance = np.minimum(clearance, distance - other.radius_um - radius_um - gap)
    free = np.flatnonzero(clearance >= 0)
    best = candidates[free[0] if len(free) else int(np.argmax(clearance))]
    return float(best[0]), float(best[1])


def _jittered_grid(spacing_um: float, side_um: float, rng: np.random.Generator) -> DoubleArray:
    """Return jittered hexagonal seeds that cover the field and its surroundings."""
    n = int(side_um / spacing_um) + 4
    row, column = np.mgrid[-3 : int(n / 0.87) + 1, -2:n]
    seeds = np.stack([column + 0.5 * (row % 2), row * 0.87], axis=-1).reshape(-1, 2) * spacing_um
    jittered: DoubleArray = seeds + rng.normal(0, 0.17 * spacing_um, seeds.shape)
    return jittered


def _foam(
    x: FloatArray, y: FloatArray, side_um: float, rng: np.random.Generator
) -> tuple[
    NDArray[np.uint8],
    NDArray[np.float32],
]:
    """Return the zones of bare alveolar tissue and the direction of its septa."""
    seeds = _jittered_grid(_ALVEOLUS_UM, side_um, rng)
    warped = np.stack([x + _waves(x, y, 7, rng), y + _waves(x, y, 7, rng)], axis=-1)
    distance, nearest = cKDTree(seeds).query(warped.reshape(-1, 2), k=2)
    between = seeds[nearest[:, 1]] - seeds[nearest[:, 0]]
    # Distance to the bisector of the two nearest seeds, exact for straight walls.
    to_wall = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.hypot(*between.T))
    half_width = _SEPTUM_HALF_WIDTH_UM * (1 + 0.04 * _waves(x, y, 9, rng))
    # Some walls are missing: neighbouring alveoli open into one duct.
    pair_key = np.sort(nearest, axis=1) @ np.array([1_000_003, 7919])
    open_wall = (pair_key * 2_654_435_761 % 1000 < 90) & (distance[:, 0] < 0.56 * _ALVEOLUS_UM)
    wall = (to_wall < half_width.ravel()) & ~open_wall
    angle = np.arctan2(between[:, 1], between[:, 0]) + np.pi / 2
    zone = np.where(wall, Zone.SEPTUM, Zone.AIRSPACE).astype(np.uint8)
    return zone.reshape(x.shape), angle.astype(np.float32).reshape(x.shape)


def _lobules(
    x: FloatArray, y: FloatArray, side_um: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Return the contact programme outside granulomas: patches of about 120 um."""
    seeds = _jittered_grid(_LOBULE_UM, side_um, rng)
    programme = rng.integers(0, N_PROGRAMMES, len(seeds)).astype(np.int8)
    _, nearest = cKDTree(seeds).query(np.stack([x, y], axis=-1).reshape(-1, 2))
    lobules: NDArray[np.int8] = programme[nearest].reshape(x.shape)
    return lobules


def _rings(
    layers: _Layers,
    index: int,
    structure: Structure,
    rings: list[tuple[float, Zone]],
) -> None:
    """Paint concentric rings; ``rings`` holds (outer radius in um, zone) from outside inwards."""
    window = layers.window(structure)
    dx = layers.x[window] - structure.x_um
    dy = layers.y[window] - structure.y_um
    rho = np.hypot(dx, dy)
    inside = rho < rings[0][0]
    layers.structure[window][inside] = index
    layers.angle[window][inside] = (np.arctan2(dy, dx) + np.pi / 2)[inside]
    for radius, zone in rings:
        layers.zone[window][rho < radius] = zone


def _paint_airway(
    layers: _Layers, index: int, structure: Structure, rng: np.random.Generator
) -> None:
    r = structure.radius_um
    unit = min(1.0, r / 105)
    depths = np.array([0, 15, 31, 40, 50, 64]) * unit * rng.uniform(0.95, 1.05)
    zones = (
        Zone.ADVENTITIA,
        Zone.AIRWAY_MUSCLE,
        Zone.LAMINA,
        Zone.BASAL_EPITHELIUM,
        Zone.LUMINAL_EPITHELIUM,
        Zone.AIRWAY_LUMEN,
    )
    _rings(layers, index, structure, [(r - d, z) for d, z in zip(depths, zones, strict=True)])


def _paint_vessel(
    layers: _Layers, index: int, structure: Structure, rng: np.random.Generator
) -> None:
    r = structure.radius_um
    wall = r * rng.uniform(0.28, 0.36)
    _rings(
        layers,
        index,
        structure,
        [
            (r + 7, Zone.ADVENTITIA),
            (r, Zone.VESSEL_MUSCLE),
            (r - wall + 3, Zone.VESSEL_ENDOTHELIUM),
            (r - wall - 6, Zone.VESSEL_LUMEN),
        ],
    )


def _paint_focus(
    layers: _Layers, index: int, structure: Structure, rng: np.random.Generator
) -> None:
    window = layers.window(structure)
    dx = layers.x[window] - structure.x_um
    dy = layers.y[window] - structure.y_um
    theta = np.arctan2(dy, dx)
    outline = np.ones_like(theta)
    for lobes in (2, 3, 5):
        outline += np.float32(rng.uniform(0.05, 0.14)) * np.cos(
            lobes * theta + np.float32(rng.uniform(0, 6.3))
        )
    inside = np.hypot(dx, dy) < structure.radius_um * outline
    swirl = _waves(layers.x[window], layers.y[window], 2.2, rng)
    layers.zone[window][inside] = Zone.FIBROSIS
    layers.angle[window][inside] = swirl[inside] + np.float32(rng.uniform(0, np.pi))
    layers.structure[window][inside] = index


def _paint_granuloma(
    layers: _Layers, index: int, structure: Structure, rng: np.random.Generator
) -> None:
    r = structure.radius_um
    rings = [
        (r + 9, Zone.CAPSULE),
        (0.95 * r, Zone.GRANULOMA_CUFF),
        (0.60 * r, Zone.GRANULOMA_CORE),
        (0.17 * r, Zone.NECROSIS),
    ]
    _rings(layers, index, structure, rings)
    window = layers.window(structure)
    dx = layers.x[window] - structure.x_um
    dy = layers.y[window] - structure.y_um
    rho = np.hypot(dx, dy)
    edges, programmes = _sectors(rng)
    turn = np.mod(np.arctan2(dy, dx) - edges[0], 2 * np.pi)
    sector = np.searchsorted(edges - edges[0], turn, side="right") - 1
    inside = rho < r + 9
    layers.programme[window][inside] = programmes[sector][inside]
    septum = np.zeros_like(inside)
    for edge in edges:
        along = dx * np.cos(edge) + dy * np.sin(edge)
        across = -dx * np.sin(edge) + dy * np.cos(edge)
        septum |= (along > 0) & (np.abs(across) < _LOBULE_SEPTUM_HALF_WIDTH_UM * min(1, r / 90))
    septum &= (rho < 0.95 * r) & (rho > 0.17 * r)
    layers.zone[window][septum] = Zone.GRANULOMA_SEPTUM
    layers.angle[window][septum] -= np.float32(np.pi / 2)


def _sectors(
    rng: np.random.Generator,
) -> tuple[DoubleArray, NDArray[np.int8]]:
    """Return the ascending edges (radians) of a granuloma's lobules and their programmes.

    Five lobules for four programmes: the fifth repeats one that it does not touch.
    """
    start = rng.uniform(0, 2 * np.pi)
    order = rng.permutation(N_PROGRAMMES)
    lobules = np.append(order, order[rng.integers(1, N_PROGRAMMES - 1)]).astype(np.int8)
    n = len(lobules)
    edges = start + (np.arange(n) + rng.uniform(-0.08, 0.08, n)) * 2 * np.pi / n
    return np.asarray(edges, np.float64), lobules
