"""What to read: the source and what the user names beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """A source with optional companions.

    Attributes
    ----------
    source
        The folder or file.
    he, he_affine
        H&E image and its 3x3 alignment; None takes what the folder holds.
    labels
        CSV ``cell_id,group``; None takes what the folder holds.
    um_per_px
        Micrometres of one unit of the source's coordinates; None takes what the source states.
    """

    source: Path
    he: Path | None = None
    he_affine: Path | None = None
    labels: Path | None = None
    um_per_px: float | None = None
