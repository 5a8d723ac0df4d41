"""All cells of a slide as one small picture, drawn here for browsers that cannot draw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.palette import REST, UNASSIGNED, group_colours

if TYPE_CHECKING:
    from spatialformer_core.slides import Slide
    from spatialformer_core.slides.meta import Bounds

LONGEST_PX = 1600
_MARGIN_PX = 8
_PLAIN = "#46707D"
_RAMP = ("#E9CF86", "#DB7A55", "#A3306B", "#3C1B66")
"""Few to many transcripts: readable on white without telling red from green."""

_NONE = "#D5DBDE"

_RADIUS_PX = (0.8, 7.0)
_RAISED_PX = 2.5
_FAINT = 0.3
Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CellPicture:
    """The cells of a slide as a picture.

    Attributes
    ----------
    png
        The file.
    bounds_um
        What it shows: ``(x0, y0, x1, y1)``, y downwards.
    legend
        Label and ``#RRGGBB`` of each colour, in order.
    """

    png: bytes
    bounds_um: Bounds
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where some cells are drawn if not where they lie in the tissue: on the map of an embedding.

    Attributes
    ----------
    rows
        Rows of the slide, shape ``(m,)``.
    xy
        Their places, y downwards, shape ``(m, 2)``.
    radius
        Of their discs, in the units of the places.
    """

    rows: LongArray
    xy: DoubleArray
    radius: float


def cell_picture(
    slide: Slide,
    color_by: str,
    longest_px: int = LONGEST_PX,
    owner: str | None = None,
    *,
    picked: BoolArray | None = None,
    places: Places | None = None,
) -> CellPicture:
    """Draw every cell as a disc of its size on white; cells that fail QC are fainter.

    Parameters
    ----------
    slide
        The slide.
    color_by
        ``group:KEY``, ``gene:SYMBOL``, ``value:NAME``, ``pair:GENE,GENE``, ``result:JOB/COLUMN``
        or ``none``.
    longest_px
        Pixels along the longer side.
    owner
        Whose jobs ``result`` may name; None: anybody's.
    picked
        Cells that keep their colour, shape ``(n_cells,)``, drawn larger and above the others;
        None: all do.
    places
        Which cells are drawn where; None: all of them in the tissue.

    Raises
    ------
    SpatialFormerError
        If the slide has no such grouping, gene, value or result.
    """
    colours, order, legend = _colours(slide, color_by, owner)
    if picked is not None:
        colours[~picked] = _rgb(UNASSIGNED)
        legend = (*legend, (REST, UNASSIGNED))
    if places is None:
        return _drawn(_in_tissue(slide), colours, order, legend, longest_px, raised=picked)
    number = np.full(slide.meta.n_cells, -1)
    number[places.rows] = np.arange(len(places.rows))
    order = number[order]
    passing = np.asarray(slide.passes_qc, np.bool_)[places.rows]
    bounds = (0.0, 0.0, *places.xy.max(axis=0).tolist())
    scene = _Scene(places.xy, bounds, places.radius, ~passing)
    raised = None if picked is None else picked[places.rows]
    shown = colours[places.rows], order[order >= 0], legend
    return _drawn(scene, *shown, longest_px, raised=raised)


def value_picture(
    slide: Slide, values: NDArray[np.float64], high: float, longest_px: int = LONGEST_PX
) -> CellPicture:
    """Draw every cell by a value of its own.

    Parameters
    ----------
    values
        Not negative, shape ``(n_cells,)``; 0 is drawn as none, anything above it larger.
    high
        Value of the darkest colour, see `darkest`.
    """
    return _drawn(_in_tissue(slide), *_by_value(values, high), longest_px, raised=values > 0)


def darkest(values: NDArray[np.float64]) -> float:
    """Return the value from which on cells are darkest, so that a few do not pale all others."""
    present = values[values > 0]
    return max(1.0, float(np.percentile(present, 99.5))) if len(present) else 1.0


@dataclass(frozen=True, slots=True)
class _Scene:
    """Places of cells with their bounds, the radius of a cell, and which of them are faint."""

    xy: DoubleArray
    bounds: Bounds
    radius: float
    faint: BoolArray


def _in_tissue(slide: Slide) -> _Scene:
    failing = ~np.asarray(slide.passes_qc, np.bool_)
    xy_um = np.asarray(slide.xy_um, np.float64)
    return _Scene(xy_um, slide.meta.bounds_um, _radius_um(slide), failing)


def _drawn(
    scene: _Scene,
    colours: Rgb,
    order: NDArray[np.int64],
    legend: tuple[tuple[str, str], ...],
    longest_px: int,
    *,
    raised: BoolArray | None = None,
) -> CellPicture:
    """Draw the cells; those that are raised once more, larger and above the others."""
    faint = scene.faint
    colours[faint] = np.rint(255 - _FAINT * (255 - colours[faint].astype(np.float64)))
    x0, y0, x1, y1 = scene.bounds
    um_per_px = max(x1 - x0, y1 - y0, 1.0) / longest_px
    shape = tuple(int(np.ceil((b - a) / um_per_px)) + 1 for a, b in ((y0, y1), (x0, x1)))
    canvas = np.full((shape[0] + 2 * _MARGIN_PX, shape[1] + 2 * _MARGIN_PX, 3), 255, np.uint8)
    at = np.rint((scene.xy[order] - (x0, y0)) / um_per_px).astype(np.int64) + _MARGIN_PX
    for dy, dx in _disc(scene.radius / um_per_px):
        canvas[at[:, 1] + dy, at[:, 0] + dx] = colours[order]
    if raised is not None:
        above, drawn = at[raised[order]], colours[order[raised[order]]]
        for dy, dx in _disc(_RAISED_PX):
            canvas[above[:, 1] + dy, above[:, 0] + dx] = drawn
    # A pixel's value belongs to its centre, a picture's edge lies half a pixel further out.
    edge_um = (_MARGIN_PX + 0.5) * um_per_px
    height_um, width_um = (n * um_per_px for n in canvas.shape[:2])
    left, top = x0 - edge_um, y0 - edge_um
    return CellPicture(_png(canvas), (left, top, left + width_um, top + height_um), legend)


def _colours(
    slide: Slide, color_by: str, owner: str | None
) -> tuple[Rgb, NDArray[np.int64], tuple[tuple[str, str], ...]]:
    """Return ``(colour (n, 3), order of drawing (n,), legend)``."""
    from spatialformer_core.service import view_colours

    kind, _, name = color_by.partition(":")
    n = slide.meta.n_cells
    if kind == "group":
        groups = slide.group(name)
        palette = group_colours(len(groups.categories))
        table = np.array([_rgb(colour) for colour in (*palette, UNASSIGNED)], np.uint8)
        # Code -1, no group, is the last row.
        legend = tuple(zip(groups.categories, palette, strict=True))
        return table[np.asarray(groups.codes)], np.arange(n), legend
    if kind == "gene":
        counts = np.asarray(slide.gene_column(name), np.float64)
        return _by_value(counts, darkest(counts))
    if kind == "value":
        return _by_codes(*view_colours.read_codes(view_colours.value_codes(slide, name)))
    if kind == "pair" and name.count(",") == 1:
        body = view_colours.pair_codes(slide, *name.split(","))
        return _by_codes(*view_colours.read_codes(body))
    if kind == "result":
        body = view_colours.result_codes(slide, *name.partition("/")[::2], owner)
        return _by_codes(*view_colours.read_codes(body))
    if color_by == "none":
        return np.tile(np.array(_rgb(_PLAIN), np.uint8), (n, 1)), np.arange(n), ()
    raise SpatialFormerError(f"Cells cannot be coloured by {color_by[:40]!r}.")


def _by_value(
    values: NDArray[np.float64], high: float
) -> tuple[Rgb, NDArray[np.int64], tuple[tuple[str, str], ...]]:
    colours = _ramp(values / high)
    colours[values == 0] = _rgb(_NONE)
    legend = (("none", _NONE), ("few", _RAMP[0]), (f"{np.ceil(high):g} or more", _RAMP[-1]))
    return colours, np.argsort(values, kind="stable"), legend


def _by_codes(
    header: dict[str, Any], codes: NDArray[np.int64]
) -> tuple[Rgb, NDArray[np.int64], tuple[tuple[str, str], ...]]:
    """Colour cells as the viewer does by the bytes that it gets."""
    if header["kind"] == "group":
        palette = [*header["colours"], UNASSIGNED]
        table = np.array([_rgb(colour) for colour in palette], np.uint8)
        order = np.argsort(codes, kind="stable")
        ordered = order if header.get("ordered") else np.arange(len(codes))
        return table[codes], ordered, tuple(zip(header["categories"], palette, strict=False))
    low, high = header["low"], header["high"]
    colours = _ramp((header["offset"] + codes * header["scale"] - low) / (high - low))
    colours[codes < 0] = _rgb(_NONE)
    legend = [(f"{low:.3g} or less", _RAMP[0]), (f"{high:.3g} or more", _RAMP[-1])]
    unknown = [("not known", _NONE)] if (codes < 0).any() else []
    return colours, np.argsort(codes, kind="stable"), (*legend, *unknown)


def _ramp(share: NDArray[np.float64]) -> Rgb:
    """Return the colours of shares of the ramp, 0 to 1, shape ``(n, 3)``."""
    stops = np.array([_rgb(colour) for colour in _RAMP], np.float64)
    at = np.clip(share, 0, 1) * (len(stops) - 1)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, k]) for k in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def _radius_um(slide: Slide) -> float:
    area_um2 = np.asarray(slide.area_um2)
    area_um2 = area_um2[np.isfinite(area_um2) & (area_um2 > 0)]
    return 0.8 * float(np.sqrt(np.median(area_um2) / np.pi)) if len(area_um2) else 3.2


def _disc(radius_px: float) -> list[tuple[int, int]]:
    """Return the pixels of a disc around its middle, outermost first."""
    radius = float(np.clip(radius_px, *_RADIUS_PX))
    reach = range(-int(radius), int(radius) + 1)
    inside = [(dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx <= radius * radius]
    return sorted(inside, key=lambda at: -(at[0] ** 2 + at[1] ** 2))


def _png(canvas: Rgb) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(canvas, level=6))
