"""What a reader hands over: plain arrays, and references to images that are copied later."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray, LongArray

GroupCodes = NDArray[np.int16]
Names = NDArray[np.str_]
ImageKind = Literal["he", "stain"]

Csr = Any
"""``scipy.sparse.csr_matrix``; scipy ships no types."""


@dataclass(frozen=True, slots=True)
class Groups:
    """One grouping of the cells.

    Attributes
    ----------
    categories
        Names of the groups.
    codes
        Index into ``categories`` per cell, ``-1`` = none, shape ``(n_cells,)``.
    """

    categories: tuple[str, ...]
    codes: GroupCodes


@dataclass(frozen=True, slots=True)
class Overview:
    """What an AnnData file holds.

    Attributes
    ----------
    n_cells
        Its cells.
    groups
        Names of the groups of each grouping.
    has_coordinates
        Whether its cells have a place.
    """

    n_cells: int
    groups: dict[str, tuple[str, ...]]
    has_coordinates: bool


@dataclass(frozen=True, slots=True)
class Polygons:
    """One outline per cell, ragged, in slide order; a cell without outline has an empty row.

    Attributes
    ----------
    indptr
        Row pointers, shape ``(n_cells + 1,)``.
    xy_um
        Vertices, shape ``(n_vertices, 2)``.
    """

    indptr: LongArray
    xy_um: FloatArray


@dataclass(frozen=True, slots=True)
class Nuclei:
    """Outlines of nuclei; a cell may have none, one or several.

    Attributes
    ----------
    cell
        Index of the cell that each nucleus belongs to, shape ``(n_nuclei,)``, ascending.
    outlines
        One row per nucleus.
    """

    cell: IntArray
    outlines: Polygons


@dataclass(frozen=True, slots=True)
class Transcripts:
    """Every transcript of the source file, in file order.

    Attributes
    ----------
    xyz_um
        Positions, shape ``(m, 2)`` or, with depth, ``(m, 3)``.
    feature
        Index into ``feature_names``, shape ``(m,)``.
    cell
        Index into the cells, ``-1`` = outside any cell or of a cell that is not listed, ``(m,)``.
    qv
        Phred-scaled quality, shape ``(m,)``; None where the source has none.
    feature_names
        Names of the features as the file writes them, genes and controls.
    gene_of_feature
        Gene column of each feature, ``-1`` for controls and names that the matrix does not know.
    n_unlisted_cell
        Transcripts that name a cell which the table of cells does not hold.
    overlaps_nucleus
        Whether the source places each transcript over a nucleus, shape ``(m,)``; None where it
        does not say.
    """

    xyz_um: FloatArray
    feature: IntArray
    cell: IntArray
    qv: FloatArray | None
    feature_names: tuple[str, ...]
    gene_of_feature: IntArray
    n_unlisted_cell: int = 0
    overlaps_nucleus: BoolArray | None = None

    @property
    def n(self) -> int:
        """Number of transcripts in the file."""
        return len(self.feature)

    @staticmethod
    def none() -> Transcripts:
        """Return the transcripts of a source that has none: a table of cells alone."""
        empty = np.zeros(0, np.int32)
        return Transcripts(np.zeros((0, 2), np.float32), empty, empty, None, (), empty)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image of the source folder that is not read yet.

    Attributes
    ----------
    paths
        One file, or one file per channel.
    um_from_px
        Homogeneous 3x3 matrix from pixel (column, row) to micrometres.
    alignment_rms_um
        How far the keypoints lie from where the matrix puts them (root mean square); None where
        the matrix was given as such.
    channels
        Names that the source gives to the channels beside the files; empty takes the files' own.
    pixels
        The pixels themselves, shape ``(channels, height, width)``, where they lie in no TIFF
        (``paths`` is empty then): anything that has a shape and a dtype and gives an array when
        it is sliced.
    """

    name: str
    kind: ImageKind
    paths: tuple[Path, ...]
    um_from_px: DoubleArray
    alignment_rms_um: float | None = None
    channels: tuple[str, ...] = ()
    pixels: Any = None


@dataclass(frozen=True, slots=True)
class CellTable:
    """The cells and their expression.

    Attributes
    ----------
    cell_ids
        Unique names, shape ``(n,)``.
    xy_um
        Centroids, shape ``(n, 2)``.
    area_um2
        Cell areas, shape ``(n,)``; None where the source has none.
    counts
        Cells x genes, int32, genes only (controls are counted in ``n_control_counts``).
    genes
        Gene symbols, one per column.
    control_names
        Features of the matrix that are controls.
    gene_ids
        Stable id (Ensembl) per gene, empty where it is not known; None where the source has none.
    """

    cell_ids: Names
    xy_um: DoubleArray
    area_um2: FloatArray | None
    counts: Csr
    genes: tuple[str, ...]
    control_names: tuple[str, ...]
    n_control_counts: int
    groups: dict[str, Groups] = field(default_factory=dict)
    gene_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """Cells that need no place: what an AnnData file says of their expression.

    Attributes
    ----------
    cell_ids
        Unique names, shape ``(n,)``.
    counts
        Cells x genes, int32.
    genes
        Names of the genes, one per column.
    gene_ids
        Stable id (Ensembl) per gene; None where the file has none.
    xy_um
        Centroids, shape ``(n, 2)``; None for dissociated cells.
    """

    cell_ids: Names
    counts: Csr
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...] | None
    groups: dict[str, Groups]
    xy_um: DoubleArray | None


@dataclass(frozen=True, slots=True)
class SourceData:
    """A whole source, read and checked.

    Attributes
    ----------
    technology
        Which kind of source it was.
    simulated
        Whether the source says of itself that it is simulated.
    counts_min_qv
        Quality at which the instrument made the matrix; None where the source has no quality.
    missing
        One sentence for each optional part that the source lacks.
    notes
        Counts of what was left out while reading.
    nuclei
        Outlines of nuclei; None where the source has none.
    """

    technology: str
    simulated: bool
    cells: CellTable
    transcripts: Transcripts
    polygons: Polygons | None
    images: tuple[ImageSource, ...]
    counts_min_qv: float | None
    missing: tuple[str, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    nuclei: Nuclei | None = None
