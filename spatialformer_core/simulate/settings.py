"""What a simulated slide is made from, and the random streams that all of it comes from."""

from __future__ import annotations

import zlib
from typing import Final, Literal

import numpy as np
from pydantic import Field

from spatialformer_core.config import FrozenModel

# Chosen so that depth 0.45 gives the pancreas slide's ratio of genes to transcripts.
_FOCUS_POWER: Final = 1.2


class DonorEffects(FrozenModel):
    """How the tissue of one donor of a cohort differs from that of a donor on its own.

    Attributes
    ----------
    condition
        ``healthy`` tissue has no granulomas, and its macrophages and T cells share no programme.
    contact_strength
        Power of the folds by which contact genes rise: 1 is the planted one, 0 none.
    disease_folds
        Fold of each disease gene; 1 in healthy donors.
    """

    condition: Literal["healthy", "disease"]
    contact_strength: float = Field(gt=0, le=10)
    disease_folds: dict[str, float]


class SimulationSettings(FrozenModel):
    """Everything that decides a simulated slide; equal settings give equal slides.

    Attributes
    ----------
    seed
        Seed of the tissue, its cells and their transcripts.
    cells
        Number of segmented cells; the tissue is as large as they need. 20,000 cells at depth 1
        take 1.4 GB of memory, and more cells in proportion.
    depth
        Multiplier of the transcripts per cell: 1 is a lung panel (about 70 genes and 120
        transcripts per cell), 0.45 the poorer pancreas slide (about 24 genes and 55 transcripts;
        below 1 the expression is also more concentrated, see `focus`).
    donor
        Names the donor; the same donor has the same gene-wise random effects on every slide.
    he
        Whether an H&E picture with its alignment is written.
    pixel_size_um
        Pixel size of the morphology picture and of the masks.
    he_pixel_size_um
        Pixel size of the H&E picture.
    granulomas
        Number of granulomas; by default one for each 2,000 cells, at least two.
    spillover
        Share of a cell's transcripts that are found in a cell that touches it.
    planted
        False: the same tissue without any of the planted relations (a null tissue).
    effects
        What makes it one donor of a cohort; None changes nothing.
    """

    seed: int = Field(default=1, ge=0, lt=2**32)
    cells: int = Field(default=20_000, ge=200, le=1_000_000)
    depth: float = Field(default=1.0, gt=0, le=5)
    donor: str = Field(default="simulated-1", min_length=1, max_length=64)
    he: bool = True
    pixel_size_um: float = Field(default=0.425, ge=0.2, le=5)
    he_pixel_size_um: float = Field(default=0.5, ge=0.2, le=5)
    granulomas: int | None = Field(default=None, ge=1, le=1000)
    spillover: float = Field(default=0.04, ge=0, le=0.3)
    planted: bool = True
    effects: DonorEffects | None = None

    @property
    def focus(self) -> float:
        """Power that concentrates the expression of slides poorer than a lung panel.

        The pancreas slide has fewer genes per cell than thinning a lung panel would leave.
        """
        return float(min(max(self.depth**-_FOCUS_POWER, 1.0), 3.0))

    @property
    def n_granulomas(self) -> int:
        """Number of granulomas to lay out."""
        if self.effects is not None and self.effects.condition == "healthy":
            return 0
        return self.granulomas or max(2, round(self.cells / 2000))


def only_in_cohorts(settings: SimulationSettings) -> set[str]:
    """Return the settings that a slide on its own does not name in its files."""
    return set() if settings.effects else {"effects"}


class SimulationReport(FrozenModel):
    """What was written.

    Attributes
    ----------
    name
        Name of the bundle's folder.
    cells, genes, transcripts
        Segmented cells, genes of the panel, and rows of the transcript table.
    transcripts_per_cell, genes_per_cell
        Mean over cells of the cell-feature matrix (QV >= 20, controls left out).
    granulomas
        Number of granulomas.
    side_um
        Side of the square field of view.
    seconds
        Wall time.
    """

    name: str
    cells: int
    genes: int
    transcripts: int
    transcripts_per_cell: float
    genes_per_cell: float
    granulomas: int
    side_um: float
    seconds: float


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random stream of one step.

    Every step draws from a stream of its own, so that a change in one step leaves the others as
    they were.
    """
    keys = [zlib.crc32(name.encode()) for name in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))
