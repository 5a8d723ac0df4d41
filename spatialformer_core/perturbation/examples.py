"""A near cell pair that stands as an example of a gene pair, with what is seen in both cells."""

from __future__ import annotations

from dataclasses import dataclass

from spatialformer_core.arrays import DoubleArray


@dataclass(frozen=True, slots=True)
class ExampleCell:
    """One cell of an example.

    Attributes
    ----------
    row, cell_id
        Its row on the slide, and its name.
    xy_um
        Centre, shape ``(2,)``.
    outline_um
        Corners, shape ``(n, 2)``; None on a slide without outlines.
    first_um, second_um
        Transcripts of the left and of the right gene in this cell, positions of shape ``(n, 3)``;
        None on a slide without transcripts.
    """

    row: int
    cell_id: str
    xy_um: DoubleArray
    outline_um: DoubleArray | None
    first_um: DoubleArray | None
    second_um: DoubleArray | None


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """Two neighbouring cells, the left gene in the left one and the right gene in the right one.

    Attributes
    ----------
    slide_id, unit
        Where they lie.
    left, right
        The two cells.
    distance_um
        Between their centres.
    """

    slide_id: str
    unit: str
    left: ExampleCell
    right: ExampleCell
    distance_um: float

    @property
    def midpoint_um(self) -> tuple[float, float]:
        """Return the point halfway between the two centres."""
        x, y = (self.left.xy_um + self.right.xy_um) / 2
        return float(x), float(y)
