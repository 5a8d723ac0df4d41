"""An empty figure with its caption, and a figure as a file."""

from __future__ import annotations

import io
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEUTRAL, STRONG, WEAK = "#9aa5b1", "#b3261e", "#1f5fa8"
_FORMATS = (".svg", ".png", ".pdf")
_DPI = 300
_CAPTION_COLUMNS = 95


def canvas(
    title: str, caption: Sequence[str], size: tuple[float, float] = (6.4, 5.2)
) -> tuple[Figure, Axes]:
    """Return a figure and its axes; the caption says what must stand in every plot.

    Parameters
    ----------
    title
        What is shown.
    caption
        Sentences below the axes.
    size
        Width and height in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    lines = "\n".join(fill(line, _CAPTION_COLUMNS) for line in caption if line)
    if lines:
        figure.supxlabel(lines, fontsize=7, x=0.01, ha="left", color="#444")
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure; equal figures give equal files.

    Parameters
    ----------
    figure
        A matplotlib figure.
    path
        Its ending (``.svg``, ``.png``, ``.pdf``) decides the format.

    Raises
    ------
    SpatialFormerError
        For another ending.
    """
    content = as_bytes(figure, path.suffix)
    with files.atomic_write(path) as stream:
        stream.write(content)


def as_bytes(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the content of a file.

    Parameters
    ----------
    figure
        A matplotlib figure.
    suffix
        ``.svg``, ``.png`` or ``.pdf``.

    Raises
    ------
    SpatialFormerError
        For another ending.
    """
    import matplotlib as mpl

    if suffix not in _FORMATS:
        raise SpatialFormerError(f"Figures are written as {', '.join(_FORMATS)}, not {suffix!r}.")
    # Text stays text: it can be searched, and edited in a drawing program.
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "spatialformer"}
    dates: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    content = io.BytesIO()
    with mpl.rc_context(style):
        figure.savefig(content, format=suffix[1:], dpi=_DPI, metadata=dates.get(suffix))
    return content.getvalue()
