"""Genes and gene sets as people write them down: pasted into a page or kept in a small file."""

from __future__ import annotations

import re

from spatialformer_core.errors import SpatialFormerError

MAX_GENES, MAX_SETS = 4_096, 1_024
_SEPARATORS = re.compile(r"[\s,;\"']+")
_MIN_GMT = 3


def genes_of(text: str) -> tuple[str, ...]:
    """Return gene symbols, each once; commas, semicolons, blanks, quotes and lines part them.

    Raises
    ------
    SpatialFormerError
        If there are more than `MAX_GENES`.
    """
    found = tuple(dict.fromkeys(part for part in _SEPARATORS.split(text) if part))
    if len(found) > MAX_GENES:
        raise SpatialFormerError(
            f"{len(found):,} genes are named; up to {MAX_GENES:,} can be knocked out by name.",
            fix="Name none to knock out every gene.",
        )
    return found


def sets_of(text: str) -> dict[str, list[str]]:
    """Return gene sets: one per line, as ``NAME: A, B, C`` or as GMT (name, note, genes; tabs).

    Raises
    ------
    SpatialFormerError
        If a line is neither, names no gene, or a name comes twice.
    """
    found: dict[str, list[str]] = {}
    for line in filter(str.strip, text.splitlines()):
        name, genes = _set_of(line)
        if not name or not genes:
            raise SpatialFormerError(
                "A line of the gene sets has no name or no gene.",
                where=repr(line[:60]),
                fix="Write NAME: A, B, C or GMT: name, description, then the genes, parted by "
                "tabs.",
            )
        if name in found:
            raise SpatialFormerError(f"The gene set {name[:60]!r} comes twice.")
        found[name] = genes
    if len(found) > MAX_SETS:
        raise SpatialFormerError(f"{len(found):,} gene sets are given; up to {MAX_SETS:,} may be.")
    return found


def _set_of(line: str) -> tuple[str, list[str]]:
    if "\t" in line:
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) < _MIN_GMT:
            return parts[0], []
        return parts[0], [part for part in parts[2:] if part]
    name, _, rest = line.partition(":")
    return name.strip(), list(genes_of(rest))
