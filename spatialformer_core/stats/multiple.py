"""Multiple testing over everything that was tested."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError


def benjamini_hochberg(p: NDArray[np.floating]) -> DoubleArray:
    """Return the false discovery rate at which each test would be called (BH 1995).

    Give the p-values of ALL tests: adjusting only the small ones adjusts nothing.

    Parameters
    ----------
    p
        Any shape; NaN marks what was not tested and stays NaN.

    Raises
    ------
    SpatialFormerError
        If a value lies outside ``[0, 1]``.
    """
    values = np.asarray(p, np.float64)
    tested = ~np.isnan(values)
    kept = values[tested]
    if ((kept < 0) | (kept > 1)).any():
        raise SpatialFormerError("A p-value lies outside [0, 1].")
    # Ties all get the value of their last, so their order does not matter.
    order = np.argsort(kept)
    scaled = kept[order] * (len(kept) / np.arange(1, len(kept) + 1))
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    q = np.full(values.shape, np.nan)
    unsorted = np.empty(len(kept))
    unsorted[order] = adjusted
    q[tested] = unsorted
    return q
