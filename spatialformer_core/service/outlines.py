"""Outlines of cells and nuclei as the viewer reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.slides import Polygons


def outline_bytes(
    polygons: Polygons, rows: NDArray[Any], cells: NDArray[Any], origin_um: NDArray[np.float64]
) -> bytes:
    """Return some outlines in the layout of `SlideView.polygon_tile`; empty ones are left out."""
    lengths = polygons.indptr[rows + 1] - polygons.indptr[rows]
    rows, cells, lengths = rows[lengths > 0], cells[lengths > 0], lengths[lengths > 0]
    start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    source = np.repeat(polygons.indptr[rows] - start[:-1], lengths) + np.arange(start[-1])
    return b"".join(
        (
            np.array([len(rows), start[-1]], "<u4").tobytes(),
            cells.astype("<u4").tobytes(),
            start.astype("<u4").tobytes(),
            (polygons.xy_um[source] - origin_um).astype("<f4").tobytes(),
        )
    )
