"""What a slide says of itself (``meta.json``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spatialformer_core.config import FrozenModel, QcThresholds, SampleMetadata
from spatialformer_core.io.records import ImageKind

FORMAT_VERSION = 2
"""Format 2 adds the order by gene, the densities and nuclei to the serving index."""
READABLE = frozenset({1, 2})

Row = tuple[float, float, float]
Bounds = tuple[float, float, float, float]


class ChannelMeta(FrozenModel):
    """One channel of an image: its name, and the intensities shown as black and full colour."""

    name: str
    low: float
    high: float


class ImageMeta(FrozenModel):
    """An image of a slide.

    Attributes
    ----------
    um_from_px
        Rows of the 3x3 matrix from pixel (column, row) at full resolution to micrometres.
    pixel_size_um
        Side of a pixel: square root of the area that the matrix gives to one pixel.
    alignment_rms_um
        How far the keypoints that placed it lie from their fit; None where no more than three did.
    """

    name: str
    kind: ImageKind
    channels: tuple[ChannelMeta, ...]
    width: int
    height: int
    levels: int
    tile_px: int
    um_from_px: tuple[Row, Row, Row]
    pixel_size_um: float
    alignment_rms_um: float | None = None


class SlideMeta(FrozenModel):
    """Everything that is known of a slide besides its arrays.

    Attributes
    ----------
    bounds_um
        ``(x0, y0, x1, y1)`` of cells, outlines and transcripts.
    n_transcripts
        Transcripts of genes, of sufficient quality, in cells: those that are analysed.
    retention_per_type
        Per category of the default grouping: cells in, cells that pass QC.
    dropped
        Why transcripts and cells were left out, counted.
    mismatch
        How far matrix and transcripts disagree.
    counts_from
        ``matrix``, or ``transcripts`` where the matrix could not reflect the quality limit.
    source
        Name of the source folder, never its path.
    created
        ISO time of its ingest, UTC.
    changed
        ISO time, UTC, of the last change of groupings, images or sample; None if there was none.
    """

    slide_id: str
    name: str
    sample: SampleMetadata
    technology: str
    simulated: bool
    qc: QcThresholds
    bounds_um: Bounds
    n_cells: Annotated[int, Field(ge=0)]
    n_cells_kept: Annotated[int, Field(ge=0)]
    n_genes: Annotated[int, Field(ge=0)]
    n_transcripts: Annotated[int, Field(ge=0)]
    retention_per_type: dict[str, tuple[int, int]]
    dropped: dict[str, int]
    missing: tuple[str, ...]
    mismatch: dict[str, float] | None
    counts_from: str = "matrix"
    group_keys: tuple[str, ...]
    default_group: str | None
    has_transcripts: bool = True
    has_z: bool
    has_qv: bool
    has_polygons: bool
    has_nucleus_flags: bool = False
    has_nuclei: bool = False
    has_gene_ids: bool = False
    source: str
    created: str
    changed: str | None = None
    format_version: int = FORMAT_VERSION
    images: tuple[ImageMeta, ...] = ()

    @property
    def version(self) -> str:
        """What differs whenever anything of the slide differs: the key of whatever is cached."""
        return self.created if self.changed is None else f"{self.created}/{self.changed}"


class IngestReport(FrozenModel):
    """What ``ingest --json`` prints."""

    slide_id: str
    cells_in: int
    cells_kept: int
    transcripts_in: int
    transcripts_kept: int
    dropped: dict[str, int]
    retention_per_type: dict[str, tuple[int, int]]
    missing: tuple[str, ...]
    mismatch: dict[str, float] | None
