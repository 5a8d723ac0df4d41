"""Pictures of a slide: label masks, a DAPI-like stain and an H&E-like section.

The H&E follows Beer-Lambert: every pixel has an amount of haematoxylin and of eosin, and the two
stains' absorption gives its colour. The section was scanned on its own, slightly rotated grid;
`he_affine` says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray
from spatialformer_core.simulate.panel import CELL_TYPES
from spatialformer_core.simulate.settings import stream
from spatialformer_core.simulate.shapes import rasterise
from spatialformer_core.simulate.slide import SimulatedSlide
from spatialformer_core.simulate.tissue import RESOLUTION_UM, Zone

Labels = NDArray[np.uint32]
Picture = NDArray[np.uint8]

_MARGIN_UM = 30.0
# Absorption of red, green and blue by haematoxylin and by eosin.
_STAINS: Final = np.array([[0.62, 0.76, 0.34], [0.11, 0.80, 0.38]], np.float32)

_STROMA_ZONES = (Zone.FIBROSIS, Zone.CAPSULE, Zone.ADVENTITIA, Zone.LAMINA, Zone.GRANULOMA_SEPTUM)
_EMPTY_ZONES = (Zone.AIRSPACE, Zone.AIRWAY_LUMEN, Zone.VESSEL_LUMEN)
_MUSCLE_ZONES = (Zone.AIRWAY_MUSCLE, Zone.VESSEL_MUSCLE)

# Haematoxylin of the nucleus, haematoxylin and eosin of the cytoplasm.
_TINT: Final[dict[str, tuple[float, float, float]]] = {
    "T cell": (1.25, 0.22, 0.20),
    "NK cell": (1.2, 0.22, 0.22),
    "B cell": (1.3, 0.26, 0.20),
    "Plasma cell": (1.15, 0.38, 0.35),
    "Macrophage": (0.75, 0.10, 0.46),
    "Alveolar macrophage": (0.8, 0.12, 0.50),
    "Mast cell": (0.95, 0.42, 0.40),
    "Smooth muscle": (0.85, 0.10, 0.72),
    "Myofibroblast": (0.8, 0.10, 0.55),
    "Goblet": (0.85, 0.20, 0.14),
    "Ciliated": (0.95, 0.16, 0.52),
    "Basal": (1.1, 0.20, 0.42),
}
_DEFAULT_TINT: Final = (0.95, 0.12, 0.42)


@dataclass(frozen=True, slots=True)
class Masks:
    """Label pictures at the morphology's pixel size; 0 is background."""

    cells: Labels
    nuclei: Labels
    pixel_size_um: float


def draw_masks(slide: SimulatedSlide, nucleus_label: IntArray) -> Masks:
    """Return the masks of cells (label = index + 1) and of nuclei (label as given, 0 = none)."""
    pixel = slide.settings.pixel_size_um
    size = int(np.ceil(slide.tissue.side_um / pixel))
    shapes = slide.outlines
    order = np.arange(1, slide.n_cells + 1, dtype=np.int32)
    return Masks(
        cells=rasterise(shapes.cell, shapes.centre_um, order, size, pixel),
        nuclei=rasterise(shapes.nucleus, shapes.centre_um, nucleus_label, size, pixel),
        pixel_size_um=pixel,
    )


def draw_dapi(slide: SimulatedSlide, masks: Masks) -> NDArray[np.uint16]:
    """Return a nuclear stain, uint16, shape of the masks."""
    brightness = stream(slide.settings.seed, "dapi").uniform(0.6, 1.4, slide.n_cells + 1)
    stain = _speckle(masks.nuclei, brightness.astype(np.float32), masks.pixel_size_um)
    blurred = gaussian_filter(stain, 0.45 / masks.pixel_size_um, output=np.float32, truncate=2.5)
    # Steps of 8: the noise of a camera is no information worth storing.
    return np.asarray(np.clip(blurred, 0, 8000) // 8 * 8, np.uint16)


def he_affine(slide: SimulatedSlide) -> tuple[DoubleArray, int]:
    """Return the 3x3 matrix from H&E pixels to um, and the side of the picture in pixels."""
    rng = stream(slide.settings.seed, "affine")
    turn = float(rng.choice([-1, 1]) * rng.uniform(0.04, 0.11))
    scale = slide.settings.he_pixel_size_um * float(rng.uniform(0.995, 1.005))
    half = slide.tissue.side_um / 2
    reach = (half + _MARGIN_UM) * (np.cos(turn) + abs(np.sin(turn)))
    size = int(np.ceil(2 * reach / scale))
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[c, -s], [s, c]])
    affine = np.eye(3)
    affine[:2, :2] = linear
    affine[:2, 2] = half + rng.uniform(-8, 8, 2) - linear @ np.array([size / 2, size / 2])
    return affine, size


def draw_he(slide: SimulatedSlide, masks: Masks, affine: DoubleArray, size: int) -> Picture:
    """Return an H&E-like picture, RGB uint8, shape ``(size, size, 3)``."""
    zone = slide.tissue.zone
    layers = [
        ~np.isin(zone, _EMPTY_ZONES),
        np.isin(zone, _STROMA_ZONES),
        np.isin(zone, _MUSCLE_ZONES),
        zone == Zone.NECROSIS,
        zone == Zone.VESSEL_LUMEN,
        zone == Zone.SEPTUM,
    ]
    fields = np.stack([gaussian_filter(f.astype(np.float32), 0.9) for f in layers], axis=-1)
    tint = np.array([_TINT.get(name, _DEFAULT_TINT) for name in CELL_TYPES], np.float32)
    per_cell = tint[slide.cell_type]
    vary = stream(slide.settings.seed, "tint").lognormal(0, 0.16, per_cell.shape)
    per_cell = np.vstack([np.zeros((1, 3)), per_cell * vary]).astype(np.float32)
    owner = np.zeros(int(masks.nuclei.max()) + 1, np.int32)
    with_nucleus = np.flatnonzero(slide.outlines.has_nucleus)
    owner[1:] = with_nucleus[: len(owner) - 1] + 1
    stains = _stain(
        affine,
        size,
        (masks.cells, masks.nuclei, masks.pixel_size_um),
        (fields, slide.tissue.angle),
        (per_cell, owner),
    )
    blurred = gaussian_filter(stains, (0.6, 0.6, 0), truncate=2)
    return _colour(blurred, _STAINS)


@njit(cache=True)
def _hash(a: int, b: int, salt: int) -> float:
    """Return a fixed pseudo-random number in [0, 1) for two integers."""
    h = np.uint64(a * 73856093) ^ np.uint64(b * 19349663) ^ np.uint64(salt * 83492791)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return np.float64(h & np.uint64(0xFFFFFF)) / 16777216.0


@njit(cache=True)
def _noise(x: float, y: float, salt: int) -> float:
    """Return smooth noise in [0, 1) with a grain of one unit."""
    i, j = int(np.floor(x)), int(np.floor(y))
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    top = _hash(i, j, salt) * (1 - u) + _hash(i + 1, j, salt) * u
    low = _hash(i, j + 1, salt) * (1 - u) + _hash(i + 1, j + 1, salt) * u
    return top * (1 - v) + low * v


@njit(cache=True)
def _speckle(nuclei: Labels, brightness: FloatArray, pixel_um: float) -> FloatArray:
    """Return sharp nuclear intensities over a dim, noisy background."""
    h, w = nuclei.shape
    picture = np.empty((h, w), np.float32)
    for r in range(h):
        for c in range(w):
            value = 70 + 25 * _hash(r, c, 1)
            label = nuclei[r, c]
            if label > 0:
                grain = _noise(c * pixel_um / 1.1, r * pixel_um / 1.1, 2)
                value += 1900 * brightness[label % len(brightness)] * (0.55 + 0.75 * grain)
            picture[r, c] = value
    return picture


@njit(cache=True)
def _sample(fields: FloatArray, x: float, y: float, out: FloatArray) -> None:
    """Interpolate layers ``(h, w, k)`` at a place in raster pixels."""
    h, w, k = fields.shape
    x, y = min(max(x - 0.5, 0.0), w - 1.001), min(max(y - 0.5, 0.0), h - 1.001)
    i, j = int(x), int(y)
    u, v = x - i, y - j
    for f in range(k):
        top = fields[j, i, f] * (1 - u) + fields[j, i + 1, f] * u
        low = fields[j + 1, i, f] * (1 - u) + fields[j + 1, i + 1, f] * u
        out[f] = top * (1 - v) + low * v


@njit(cache=True)
def _red_cell(x: float, y: float, share: float) -> bool:
    """Tell whether a red blood cell lies at a place (um)."""
    pitch, radius = 6.6, 3.1
    i, j = int(np.floor(x / pitch)), int(np.floor(y / pitch))
    for a in range(i - 1, i + 2):
        for b in range(j - 1, j + 2):
            if _hash(a, b, 11) < share:
                dx = (a + 0.25 + 0.5 * _hash(a, b, 12)) * pitch - x
                dy = (b + 0.25 + 0.5 * _hash(a, b, 13)) * pitch - y
                if dx * dx + dy * dy < radius * radius:
                    return True
    return False


@njit(cache=True)
def _matrix_stain(x: float, y: float, angle: float, f: FloatArray) -> tuple[float, float]:
    """Return haematoxylin and eosin of what lies between cells (``f``: layers of `draw_he`)."""
    tissue, stroma, muscle, necrosis, blood, septum = f[0], f[1], f[2], f[3], f[4], f[5]
    edge = tissue + 0.35 * (_noise(x / 3.1, y / 3.1, 3) - 0.5)
    presence = min(max((edge - 0.42) / 0.16, 0.0), 1.0)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    fibre = _noise(along / 16, across / 1.7, 4)
    cloud = _noise(x / 60, y / 60, 5)
    eosin = 0.26 + 0.10 * cloud
    eosin += stroma * (0.10 + 0.40 * (fibre - 0.35)) + muscle * (0.22 + 0.25 * (fibre - 0.5))
    eosin += 0.07 * septum * fibre
    haem = 0.05 + 0.03 * cloud
    if necrosis > 0.05:
        debris = _noise(x / 1.3, y / 1.3, 6)
        eosin += necrosis * (0.30 + 0.15 * debris)
        haem += necrosis * (0.55 if debris > 0.80 else 0.06)
    haem, eosin = haem * presence, eosin * presence
    red_share = 0.82 * blood if blood > 0.4 else 0.13 * septum * presence
    if red_share > 0.02 and _red_cell(x, y, red_share):
        eosin = max(eosin, 0.95 + 0.1 * fibre)
    return haem, eosin


@njit(cache=True)
def _stain(
    affine: DoubleArray,
    size: int,
    masks: tuple[Labels, Labels, float],
    layers: tuple[FloatArray, FloatArray],
    cells: tuple[FloatArray, IntArray],
) -> FloatArray:
    """Return the amounts of haematoxylin and eosin of each H&E pixel, ``(size, size, 2)``."""
    cell_mask, nucleus_mask, pixel_um = masks
    fields, angles = layers
    tint, owner = cells
    h, w = cell_mask.shape
    stains = np.zeros((size, size, 2), np.float32)
    f = np.zeros(fields.shape[2], np.float32)
    side_um = h * pixel_um
    for r in range(size):
        for c in range(size):
            x = affine[0, 0] * (c + 0.5) + affine[0, 1] * (r + 0.5) + affine[0, 2]
            y = affine[1, 0] * (c + 0.5) + affine[1, 1] * (r + 0.5) + affine[1, 2]
            grain = _hash(r, c, 7) - 0.5
            stains[r, c, 1] = 0.012 + 0.012 * grain
            if x < 0 or y < 0 or x >= side_um - 1 or y >= side_um - 1:
                continue
            _sample(fields, x / RESOLUTION_UM, y / RESOLUTION_UM, f)
            pr, pc = min(int(y / pixel_um), h - 1), min(int(x / pixel_um), w - 1)
            label, nucleus = cell_mask[pr, pc], nucleus_mask[pr, pc]
            ar = min(int(y / RESOLUTION_UM), angles.shape[0] - 1)
            ac = min(int(x / RESOLUTION_UM), angles.shape[1] - 1)
            haem, eosin = _matrix_stain(x, y, angles[ar, ac], f)
            if nucleus > 0:
                who = owner[nucleus]
                chromatin = _noise(x / 0.9, y / 0.9, 8) + 0.5 * _noise(x / 2.3, y / 2.3, 9)
                rim = 0.0
                reach = max(1, int(0.5 / pixel_um + 0.5))
                if (
                    nucleus_mask[max(pr - reach, 0), pc] != nucleus
                    or nucleus_mask[min(pr + reach, h - 1), pc] != nucleus
                    or nucleus_mask[pr, max(pc - reach, 0)] != nucleus
                    or nucleus_mask[pr, min(pc + reach, w - 1)] != nucleus
                ):
                    rim = 0.22
                haem = tint[who, 0] * (0.55 + 0.5 * chromatin) + rim
                eosin = 0.14
            elif label > 0:
                granules = _noise(x / 1.4, y / 1.4, 10)
                haem = 0.25 * haem + tint[label, 1] * (0.75 + 0.5 * granules)
                eosin = 0.30 * eosin + tint[label, 2] * (0.65 + 0.45 * granules)
            stains[r, c, 0] = haem * (1 + 0.10 * grain)
            stains[r, c, 1] = max(eosin * (1 + 0.12 * grain), stains[r, c, 1])
    return stains


@njit(cache=True)
def _colour(stains: FloatArray, absorption: FloatArray) -> Picture:
    """Return RGB of stain amounts ``(h, w, 2)`` by Beer-Lambert."""
    h, w, _ = stains.shape
    picture = np.empty((h, w, 3), np.uint8)
    for r in range(h):
        for c in range(w):
            for k in range(3):
                depth = stains[r, c, 0] * absorption[0, k] + stains[r, c, 1] * absorption[1, k]
                picture[r, c, k] = np.uint8(min(max(247.0 * np.exp(-depth), 0.0), 255.0))
    return picture
