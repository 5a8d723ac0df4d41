"""Checks that every reader shares: ids, coordinates, panels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import GroupCodes, Groups, Names

MAX_COORDINATE_UM = 1e6
"""A slide is centimetres wide; a metre is a unit error."""
MAX_GENES = 65_535
_MAX_NAME = 128
_MAX_NAMES_BYTES = 1 << 32
_CONTROL = re.compile(
    r"^(negcontrol|neg_?prb|negprobe|negative|systemcontrol|falsecode|blank[_-]|antisense_|"
    r"unassignedcodeword|deprecatedcodeword|intergenic_region|genomiccontrol)",
    re.IGNORECASE,
)
_NO_GROUP = frozenset({"", "<NA>", "nan", "NaN", "NA", "None"})


def is_control(name: str) -> bool:
    """Tell whether a feature's name is one that instruments give to controls."""
    return bool(_CONTROL.match(name))


def to_names(texts: Sequence[str], where: str) -> Names:
    """Return texts as an array, which takes the longest text's room for each of them.

    Raises
    ------
    SpatialFormerError
        If one is too long, or together they would take gigabytes.
    """
    longest = max(map(len, texts), default=0)
    if longest > _MAX_NAME or 4 * longest * len(texts) > _MAX_NAMES_BYTES:
        raise SpatialFormerError(
            f"A cell id is empty or longer than {_MAX_NAME} characters.", where=where
        )
    return np.array(texts, np.str_)


def check_ids(ids: Names, where: str) -> Names:
    """Return cell ids that are unique and not empty.

    Raises
    ------
    SpatialFormerError
        On none, duplicates or empty ids.
    """
    if len(ids) == 0:
        raise SpatialFormerError("The slide has no cells.", where=where)
    names, counts = np.unique(ids, return_counts=True)
    if names[0] == "" or np.char.str_len(names).max() > _MAX_NAME:
        raise SpatialFormerError(
            f"A cell id is empty or longer than {_MAX_NAME} characters.", where=where
        )
    if len(names) != len(ids):
        repeated = names[counts > 1]
        raise SpatialFormerError(
            f"{len(repeated):,} cell ids occur more than once, {str(repeated[0])!r} first.",
            where=where,
            fix="Give every cell an id of its own.",
        )
    return ids


def check_xy(xy_um: NDArray[Any], where: str) -> None:
    """Check coordinates.

    Raises
    ------
    SpatialFormerError
        If one is not finite or beyond a metre.
    """
    bad = int(np.count_nonzero(~np.isfinite(xy_um).all(axis=1)))
    if bad:
        raise SpatialFormerError(
            f"{bad:,} of {len(xy_um):,} coordinates are missing or infinite.",
            where=where,
            fix="Remove those rows or repair their coordinates.",
        )
    if len(xy_um) and np.abs(xy_um).max() > MAX_COORDINATE_UM:
        raise SpatialFormerError(
            "Coordinates reach beyond one metre; micrometres are expected.", where=where
        )


def check_panel(names: Sequence[str], gene: BoolArray, where: str) -> None:
    """Check the features of a matrix.

    Parameters
    ----------
    names, gene
        Feature names, and which of them are genes.

    Raises
    ------
    SpatialFormerError
        If there is no gene, too many, or one occurs twice.
    """
    genes = [name for name, keep in zip(names, gene, strict=True) if keep]
    if not genes:
        raise SpatialFormerError(
            f"Unknown panel: none of the {len(names):,} features is a gene.",
            where=where,
            fix="Check that the matrix holds gene expression, not controls alone.",
        )
    if len(genes) > MAX_GENES:
        raise SpatialFormerError(f"The panel has {len(genes):,} genes; {MAX_GENES:,} at most.")
    seen: set[str] = set()
    for name in genes:
        if name in seen or not name or len(name) > _MAX_NAME:
            raise SpatialFormerError(
                f"Gene name {name[:80]!r} occurs twice, is empty or too long.", where=where
            )
        seen.add(name)


def lookup(ids: Names, wanted: Names) -> LongArray:
    """Return the position in ``ids`` of each wanted id, ``-1`` where it is not there.

    Parameters
    ----------
    ids
        Unique ids, shape ``(n,)``.
    wanted
        Shape ``(m,)``.
    """
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids, wanted, sorter=order)
    found = order[np.minimum(place, len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1).astype(np.int64)


def without_missing(groups: Groups) -> Groups:
    """Return groups in which names that mean "none" (``<NA>``, ``nan``, empty) are code -1."""
    keep = [i for i, name in enumerate(groups.categories) if name not in _NO_GROUP]
    if len(keep) == len(groups.categories):
        return groups
    renumber = np.full(len(groups.categories) + 1, -1, np.int16)
    renumber[keep] = np.arange(len(keep), dtype=np.int16)
    codes: GroupCodes = renumber[groups.codes]
    return Groups(tuple(groups.categories[i] for i in keep), codes)
