"""A simulated slide in memory: tissue, cells, transcripts and the matrix counted from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spatialformer_core.arrays import IntArray
from spatialformer_core.progress import Cancel, Progress, check
from spatialformer_core.simulate.expression import (
    CellStates,
    draw_states,
    touching_pairs,
    transcripts_made,
)
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.placement import place_cells
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.shapes import Outlines, outline_cells
from spatialformer_core.simulate.tissue import Tissue
from spatialformer_core.simulate.transcripts import MIN_QV, Transcripts, place_transcripts

ID_SUFFIX = 1
_ID_LETTERS = np.frombuffer(b"abcdefghijklmnop", np.uint8)


@dataclass(frozen=True, slots=True)
class SimulatedSlide:
    """Everything about a simulated slide.

    Attributes
    ----------
    settings
        What it was made from.
    tissue
        The layout.
    cell_type
        Type code of each cell, shape ``(n,)``.
    outlines, states
        Shapes and hidden states of the cells.
    transcripts
        All transcripts, in random order within each field of view of `fov_um`.
    id_prefix
        First part of each cell's id, ascending, uint32, shape ``(n,)``.
    """

    settings: SimulationSettings
    tissue: Tissue
    cell_type: IntArray
    outlines: Outlines
    states: CellStates
    transcripts: Transcripts
    id_prefix: NDArray[np.uint32]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cell_type)

    @property
    def cell_ids(self) -> NDArray[np.str_]:
        """Cell ids as the instrument writes them (``aaaaficg-1``), shape ``(n,)``."""
        nibbles = (self.id_prefix[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15
        letters = _ID_LETTERS[nibbles].view("S8").ravel().astype(str)
        return np.char.add(letters, f"-{ID_SUFFIX}")

    def matrix(self) -> csr_matrix:
        """Return counts of all features, cells x features, from calls with QV >= 20."""
        counted = (self.transcripts.cell >= 0) & (self.transcripts.qv >= MIN_QV)
        cell, feature = self.transcripts.cell[counted], self.transcripts.feature[counted]
        shape = (self.n_cells, len(load_panel().features))
        matrix = csr_matrix((np.ones(len(cell), np.int32), (cell, feature)), shape=shape)
        matrix.sum_duplicates()
        return matrix


def simulate_slide(
    settings: SimulationSettings, progress: Progress, cancel: Cancel
) -> SimulatedSlide:
    """Make a slide in memory; equal settings give equal slides.

    Raises
    ------
    Cancelled
        If the user asked for it.
    """
    progress(0.0, 1.0, "Laying out the tissue")
    tissue, xy_um, cell_type = place_cells(settings)
    check(cancel)
    progress(0.3, 1.0, "Shaping cells")
    outlines = outline_cells(settings.seed, xy_um, cell_type, tissue.angle[tissue.pixels(xy_um)])
    pairs = touching_pairs(xy_um)
    states = draw_states(settings, tissue, xy_um, cell_type, pairs)
    check(cancel)
    progress(0.4, 1.0, "Counting transcripts")
    made = [
        np.concatenate(parts)
        for parts in zip(
            *transcripts_made(settings, cell_type, outlines.cell_area_um2, states), strict=True
        )
    ]
    check(cancel)
    progress(0.6, 1.0, "Placing transcripts")
    transcripts = place_transcripts(settings, outlines, cell_type, pairs, (made[0], made[1]))
    rng = stream(settings.seed, "ids")
    shuffled = transcripts.take(rng.permutation(len(transcripts)))
    prefixes = np.sort(rng.choice(2**32 - 1, settings.cells, replace=False)).astype(np.uint32)
    progress(1.0, 1.0, "Tissue made")
    return SimulatedSlide(settings, tissue, cell_type, outlines, states, shuffled, prefixes)
