"""Cells that a visitor picked, kept in memory under a name, so that the viewer can ask for them.

A selection is too long for an address. After a restart the page's next run keeps it again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from spatialformer_core.errors import SpatialFormerError

_MAX_KEPT = 256
_LOCK = threading.Lock()
_KEPT: OrderedDict[tuple[str, str, str], tuple[bytes, int]] = OrderedDict()


def keep(owner: str, slide_id: str, picked: np.ndarray) -> str:
    """Keep which cells of a slide are picked, shape ``(n,)``; return the name of this selection."""
    bits = np.packbits(np.asarray(picked, np.bool_)).tobytes()
    name = hashlib.sha256(bits).hexdigest()[:16]
    with _LOCK:
        _KEPT[owner, slide_id, name] = (bits, len(picked))
        _KEPT.move_to_end((owner, slide_id, name))
        if len(_KEPT) > _MAX_KEPT:
            _KEPT.popitem(last=False)
    return name


def find(owner: str | None, slide_id: str, name: str, n_cells: int) -> np.ndarray:
    """Return which cells of a slide a selection holds, shape ``(n,)``.

    Raises
    ------
    SpatialFormerError
        If there is none of that name of this owner, or the slide has other cells by now.
    """
    with _LOCK:
        found = _KEPT.get((owner or "", slide_id, name))
    if found is None or found[1] != n_cells:
        raise SpatialFormerError(
            "This selection of cells is not kept any more.", fix="Reload the page Embedding."
        )
    picked: np.ndarray = np.unpackbits(np.frombuffer(found[0], np.uint8), count=n_cells) > 0
    return picked
