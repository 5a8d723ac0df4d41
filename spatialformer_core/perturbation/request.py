"""What a screen is asked to do; stored with its result, so that it can be run again."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from spatialformer_core.config import FrozenModel, Knockout
from spatialformer_core.stats import MIN_PER_UNIT

ScreenTest = Literal["units", "published"]

UnitKind = Literal["auto", "donor", "slide", "roi", "block"]
ScreenMode = Literal["auto", "exact", "screened"]
ControlUse = Literal["subtract", "beside", "none"]
FarFrom = Literal["around", "outside"]
Counted = Literal["cell", "eroded", "nucleus"]

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Genes = Annotated[tuple[_Name, ...], Field(min_length=1, max_length=4096)]

MIN_PAIRS_PER_UNIT = MIN_PER_UNIT
"""Near pairs, and far pairs, that a unit needs to count as a replicate."""

MIN_COVERAGE = 0.5
"""Least share of the slide's panel that the checkpoint must know."""


class ScreenRequest(FrozenModel):
    """Settings of one gene-pair screen.

    Attributes
    ----------
    slide_ids, roi_ids
        Which tissue. No region: the whole slides.
    regions_geojson
        Regions given with the request instead of saved ones, GeoJSON in um.
    groupby, group_left, group_right
        The two cell types. The left gene is knocked out in the cell of ``group_left``, the right
        gene in the cell of ``group_right``; if both are one type, gene pairs are unordered.
    checkpoint_id
        Which checkpoint.
    radius_um, far_um
        Distance of near pairs (at most) and of far pairs (from, to).
    far_from
        ``around`` takes far pairs from around the near pairs: one cell stays, the other is
        replaced. ``outside`` takes them from outside all regions; whatever follows the region
        rather than contact then differs between near and far as well.
    knockout
        ``delete`` removes the gene's token, so that later ranks move up; ``mask`` keeps its place.
    mode
        ``exact`` evaluates every gene pair of every cell pair. ``screened`` (cross-encoders only)
        proposes gene pairs by a low-rank approximation and evaluates the proposed ones exactly;
        ``auto`` takes it on a CPU where the exact screen would last longer than half an hour.
    candidates
        Gene pairs that a screened run evaluates exactly and reports.
    control
        The control of a knock-out is the same knock-out of a random gene of neighbouring rank in
        the same cell. ``subtract`` reports effects less those of their controls and keeps the raw
        ones beside the table; ``beside`` the other way round; ``none`` makes no controls.
    genes, knockout_sets
        Genes, and named sets, to be knocked out on either side; none: every gene, one at a time.
        All genes of a set that a cell expresses are knocked out together.
    unit
        Replicate unit; ``auto`` takes the largest with at least 6 levels of 10 near pairs.
    max_pairs_per_unit
        Near pairs beyond this are left out at random (seeded).
    min_support
        Cell pairs (near and far together) that must carry both genes in a unit for that unit to
        support the gene pair. Decided on expression alone, before any effect is known.
    counts
        Which transcripts are read: all of a ``cell``, those at least ``erosion_um`` inside its
        outline (``eroded``), or those over its ``nucleus``. The latter two see less spillover.
    erosion_um
        See ``counts``.
    allow_simulated
        Accept a checkpoint trained on simulated tissue for a real slide; every output is marked.
    versus_geojson, versus_roi_ids
        Other regions, given or saved: near pairs there are what the near pairs are compared with,
        instead of far pairs.
    test
        ``units``: near against far, the replicate being a piece of tissue. ``published``: d
        against 0 over cell pairs, which says nothing about tissue; for comparison only.
    agreement_ids
        Further checkpoints that carry out the same screen, to see what they agree on.
    null_checkpoint_id
        A checkpoint that was trained on shuffled labels: what it finds is no finding.
    null_runs
        How often the test is repeated with near and far exchanged at random within each unit.
    ligand_receptor
        Path of a ligand-receptor table, or ``liana`` for the one of the installed liana.
    gene_set_files
        Paths of gene-set libraries (GMT) that the results are compared with.
    liana
        Rank the gene pairs beside liana's scores of the same cells, where liana is installed.
    """

    slide_ids: tuple[str, ...] = Field(min_length=1, max_length=256)
    roi_ids: tuple[str, ...] = Field(default=(), max_length=4096)
    regions_geojson: str | None = Field(default=None, max_length=8_000_000)
    groupby: str = Field(min_length=1, max_length=128)
    group_left: str = Field(min_length=1, max_length=256)
    group_right: str = Field(min_length=1, max_length=256)
    checkpoint_id: str = Field(min_length=1, max_length=256)
    radius_um: float = Field(default=30.0, gt=0, le=100)
    far_um: tuple[float, float] = (100.0, 300.0)
    far_from: FarFrom = "around"
    knockout: Knockout = "delete"
    mode: ScreenMode = "auto"
    candidates: int = Field(default=300, ge=1, le=100_000)
    control: ControlUse = "subtract"
    genes: tuple[_Name, ...] = Field(default=(), max_length=4096)
    knockout_sets: dict[_Name, _Genes] = Field(default_factory=dict, max_length=1024)
    unit: UnitKind = "auto"
    seed: int = Field(default=0, ge=0)
    max_pairs_per_unit: int = Field(default=400, ge=MIN_PAIRS_PER_UNIT, le=20_000)
    min_support: int = Field(default=5, ge=1)
    counts: Counted = "cell"
    erosion_um: float = Field(default=1.5, gt=0, le=10)
    allow_simulated: bool = False
    versus_geojson: str | None = Field(default=None, max_length=8_000_000)
    versus_roi_ids: tuple[str, ...] = Field(default=(), max_length=4096)
    test: ScreenTest = "units"
    agreement_ids: tuple[str, ...] = Field(default=(), max_length=32)
    null_checkpoint_id: str | None = Field(default=None, min_length=1, max_length=256)
    null_runs: int = Field(default=0, ge=0, le=100)
    ligand_receptor: str | None = Field(default=None, min_length=1, max_length=4096)
    gene_set_files: tuple[str, ...] = Field(default=(), max_length=32)
    liana: bool = False

    @model_validator(mode="after")
    def _check_distances(self) -> Self:
        if not self.radius_um < self.far_um[0] < self.far_um[1] <= 2000:
            message = "far_um must be (from, to) with radius_um < from < to <= 2000"
            raise ValueError(message)
        return self

    @property
    def same_type(self) -> bool:
        """Whether both cells are of one type, so that left and right mean nothing."""
        return self.group_left == self.group_right
