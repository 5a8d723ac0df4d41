"""Where each transcript lies, which cell it is counted for, and how sure its call is.

A transcript lies in the nucleus, anywhere in the cell, or in a planted spot. A few are found in a
touching cell, beside the shared border (spillover). Background transcripts and controls lie
anywhere. Some calls have a low QV, and part of those name the wrong gene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.geometry import containing_cell, nucleus_distance, positions_inside
from spatialformer_core.simulate.panel import CELL_TYPES, TYPE_INDEX, load_panel
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.shapes import Outlines

MIN_QV: Final = 20.0
"""Calls below this are not counted in the cell-feature matrix, as on the instrument."""

_LOW_QV_SHARE = 0.12
_MIDDLE_QV_SHARE = 0.14
_WRONG_GENE_SHARE = 0.4
_BACKGROUND_SHARE = 0.07
_CONTROL_SHARE = 0.004
_SECTION_UM = 10.0
_CELL_Z_SD_UM = 1.4
_SPOT_Z_SD_UM = 0.4


@dataclass(frozen=True, slots=True)
class Transcripts:
    """All transcripts of a slide.

    Attributes
    ----------
    xyz_um
        Positions, float32, shape ``(m, 3)``.
    feature
        Column of the panel's features (genes, then controls), shape ``(m,)``.
    cell
        Cell that it is counted for, -1 outside of cells, shape ``(m,)``.
    origin
        Cell that made it, -1 for background and controls, shape ``(m,)``.
    qv
        Phred-scaled confidence, shape ``(m,)``.
    in_nucleus
        Whether it lies in that cell's nucleus, shape ``(m,)``.
    nucleus_distance_um
        Distance to the nearest nucleus (0 inside), shape ``(m,)``.
    """

    xyz_um: FloatArray
    feature: IntArray
    cell: IntArray
    origin: IntArray
    qv: FloatArray
    in_nucleus: BoolArray
    nucleus_distance_um: FloatArray

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, index: NDArray[np.integer]) -> Transcripts:
        """Return the given transcripts in the given order."""
        return Transcripts(*(getattr(self, name)[index] for name in self.__slots__))


def place_transcripts(
    settings: SimulationSettings,
    outlines: Outlines,
    cell_type: IntArray,
    pairs: IntArray,
    made: tuple[IntArray, IntArray],
) -> Transcripts:
    """Give every transcript a position, a cell and a QV, and add background and controls.

    Parameters
    ----------
    settings
        Seed, spillover, whether spots are planted.
    outlines, cell_type
        Cells.
    pairs
        Touching pairs, shape ``(p, 2)``.
    made
        Cell and gene of each transcript.
    """
    origin, gene = made
    rng = stream(settings.seed, "positions")
    n = len(origin)
    slots, slot_table = _spots(settings, outlines, rng)
    slot = slot_table[cell_type[origin], gene]
    slot[rng.random(n) >= planted.SPOT_SHARE] = -1
    nuclear = rng.random(n) < _nuclear_share()[gene]
    cell = _spill(settings.spillover, origin, pairs, len(cell_type), rng)
    xy = positions_inside(
        (origin, cell, slot, nuclear & outlines.has_nucleus[origin]),
        (outlines.centre_um, outlines.cell, outlines.nucleus, slots),
        rng.random((n, 3), np.float32),
        rng.standard_normal((n, 2), np.float32) * np.float32(planted.SPOT_SD_UM),
    )
    inside = Transcripts(
        xyz_um=np.column_stack([xy + outlines.centre_um[cell], _depths(slot, origin, rng)]).astype(
            np.float32
        ),
        feature=gene.copy(),
        cell=cell,
        origin=origin,
        qv=np.zeros(n, np.float32),
        in_nucleus=np.zeros(n, np.bool_),
        nucleus_distance_um=np.zeros(n, np.float32),
    )
    everything = _join(inside, _background(settings, inside, outlines))
    return _nucleus_columns(_call(everything, stream(settings.seed, "calls")), outlines)


def _nuclear_share() -> FloatArray:
    """Return the share of each gene's transcripts that stay in the nucleus, ``(genes,)``."""
    rng = stream(0, "nuclear share")
    return rng.uniform(0.05, 0.5, load_panel().n_genes).astype(np.float32)


def _spots(
    settings: SimulationSettings, outlines: Outlines, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Return the spot centres ``(n, slots, 2)`` and the slot of each (type, gene), -1 for none.

    The two spots of an ``own_spots`` decoy lie on opposite sides of the cell.
    """
    panel = load_panel()
    table = np.full((len(CELL_TYPES), panel.n_genes), -1, np.int32)
    n, n_vertices = len(outlines.cell), outlines.cell.shape[1]
    centres: list[FloatArray] = []

    def add(turn: DoubleArray, genes: tuple[str, ...], types: tuple[str, ...]) -> None:
        vertex = (turn / (2 * np.pi) * n_vertices).astype(np.int64) % n_vertices
        share = rng.uniform(0.35, 0.7, n).astype(np.float32)
        centres.append(outlines.cell[np.arange(n), vertex] * share[:, None])
        for gene in genes:
            for name in types or CELL_TYPES:
                table[TYPE_INDEX[name], panel.index(gene)] = len(centres) - 1

    for spot in planted.COLOCALISED_PAIRS + planted.COLOCALISATION_DECOYS:
        turn = rng.uniform(0, 2 * np.pi, n)
        if spot.placement == "shared_spot":
            add(turn, spot.genes, spot.cell_types)
        elif spot.placement == "own_spots":
            add(turn, spot.genes[:1], spot.cell_types)
            add(turn + np.pi + rng.normal(0, 0.3, n), spot.genes[1:], spot.cell_types)
    if not settings.planted:
        table[:] = -1
    return np.stack(centres, axis=1).astype(np.float32), table


def _depths(slot: IntArray, origin: IntArray, rng: np.random.Generator) -> FloatArray:
    """Return z of each transcript in um: cells lie at a depth of their own, spots are flat."""
    n_cells = int(origin.max(initial=-1)) + 1
    middle = rng.normal(_SECTION_UM, 1.0, n_cells)
    shift = rng.normal(0, 1.0, (n_cells, int(slot.max(initial=0)) + 1))
    noise = rng.standard_normal(len(slot), np.float32)
    in_spot = slot >= 0
    z = middle[origin] + _CELL_Z_SD_UM * noise
    spot_z = middle[origin] + shift[origin, np.maximum(slot, 0)] + _SPOT_Z_SD_UM * noise
    return np.clip(np.where(in_spot, spot_z, z), 0, 2 * _SECTION_UM).astype(np.float32)


def _spill(
    share: float, origin: IntArray, pairs: IntArray, n_cells: int, rng: np.random.Generator
) -> IntArray:
    """Return the cell in which each transcript is found: its own, or one that touches it."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(np.bincount(both[:, 0], minlength=n_cells), out=indptr[1:])
    degree = np.diff(indptr)
    moving = np.flatnonzero((rng.random(len(origin)) < share) & (degree[origin] > 0))
    source = origin[moving]
    choice = (rng.random(len(moving)) * degree[source]).astype(np.int64)
    cell = origin.copy()
    cell[moving] = both[indptr[source] + choice, 1]
    return cell


def _background(
    settings: SimulationSettings, inside: Transcripts, outlines: Outlines
) -> Transcripts:
    """Return transcripts that no cell made: ambient ones and controls.

    Half of them lie near cells, half anywhere; those within an outline are counted for that cell.
    """
    rng = stream(settings.seed, "background")
    panel = load_panel()
    n_ambient = int(_BACKGROUND_SHARE * len(inside))
    n_controls = int(_CONTROL_SHARE * len(inside))
    ambient = inside.feature[rng.integers(0, max(len(inside), 1), n_ambient)]
    controls = panel.n_genes + rng.integers(0, len(panel.controls), n_controls)
    n = n_ambient + n_controls
    low, high = outlines.centre_um.min(axis=0), outlines.centre_um.max(axis=0)
    anywhere = rng.uniform(low, high, (n, 2))
    beside = outlines.centre_um[rng.integers(0, len(outlines.centre_um), n)]
    beside = np.clip(beside + rng.normal(0, 7.0, (n, 2)), low, high)
    xyz = np.column_stack(
        [
            np.where(rng.random(n)[:, None] < 0.5, anywhere, beside),
            rng.uniform(0, 2 * _SECTION_UM, n),
        ]
    ).astype(np.float32)
    nearest = _nearest(outlines.centre_um, xyz, 6)
    xy = xyz[:, :2].astype(np.float64)
    return Transcripts(
        xyz_um=xyz,
        feature=np.concatenate([ambient, controls]).astype(np.int32),
        cell=containing_cell(xy, nearest, outlines.centre_um, outlines.cell),
        origin=np.full(n, -1, np.int32),
        qv=np.zeros(n, np.float32),
        in_nucleus=np.zeros(n, np.bool_),
        nucleus_distance_um=np.zeros(n, np.float32),
    )


def _nearest(centre_um: DoubleArray, xyz_um: FloatArray, k: int) -> IntArray:
    """Return the nearest ``k`` centres of each point, shape ``(m, k)``."""
    k = min(k, len(centre_um))
    _, nearest = cKDTree(centre_um).query(xyz_um[:, :2].astype(np.float64), k=k)
    return np.asarray(nearest, np.int32).reshape(len(xyz_um), k)


def _join(first: Transcripts, second: Transcripts) -> Transcripts:
    names = Transcripts.__slots__
    return Transcripts(
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names)
    )


def _call(transcripts: Transcripts, rng: np.random.Generator) -> Transcripts:
    """Return the transcripts with QVs; part of the doubtful calls names a random gene."""
    n = len(transcripts)
    u = rng.random(n)
    low = u < _LOW_QV_SHARE
    middle = ~low & (u < _LOW_QV_SHARE + _MIDDLE_QV_SHARE)
    qv = np.full(n, 40.0, np.float32)
    qv[low] = rng.uniform(2, MIN_QV - 0.01, int(low.sum()))
    qv[middle] = rng.uniform(MIN_QV, 40, int(middle.sum()))
    n_genes = load_panel().n_genes
    wrong = low & (transcripts.feature < n_genes) & (rng.random(n) < _WRONG_GENE_SHARE)
    feature = transcripts.feature.copy()
    feature[wrong] = rng.integers(0, n_genes, int(wrong.sum()))
    return replace(transcripts, feature=feature, qv=qv)


def _nucleus_columns(transcripts: Transcripts, outlines: Outlines) -> Transcripts:
    """Return the transcripts with their relation to the nearest nucleus."""
    reference = transcripts.cell.copy()
    missing = (reference < 0) | ~outlines.has_nucleus[reference]
    nucleated = np.flatnonzero(outlines.has_nucleus).astype(np.int32)
    nearest = _nearest(outlines.centre_um[nucleated], transcripts.xyz_um[missing], 1)
    reference[missing] = nucleated[nearest[:, 0]]
    xy = transcripts.xyz_um[:, :2].astype(np.float64)
    distance = nucleus_distance(xy, reference, outlines.centre_um, outlines.nucleus)
    in_nucleus = (distance == 0) & (transcripts.cell == reference)
    return replace(transcripts, nucleus_distance_um=distance, in_nucleus=in_nucleus)
