"""Which images a folder holds and where they lie on the slide."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.alignment import read_alignment
from spatialformer_core.io.records import ImageKind, ImageSource

if TYPE_CHECKING:
    from tifffile import TiffFile

_UM_PER_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
MAX_ALIGNMENT_RMS_UM = 5.0
"""Keypoints that disagree by more than half a cell put cells beside their picture."""


def pixel_size_um(path: Path, folder: Path) -> float | None:
    """Return the pixel size that an OME-TIFF states, None where it states none or two."""
    with guard.open_tiff(path, folder) as tif:
        pixels = ome_pixels(guard.ome_xml(tif, path))
    if pixels is None:
        return None
    sizes = []
    for axis in "XY":
        unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        sizes.append(value * unit if unit else math.nan)
    good = all(math.isfinite(size) and size > 0 for size in sizes)
    return sizes[0] if good and math.isclose(sizes[0], sizes[1], rel_tol=1e-6) else None


def ome_pixels(xml: str) -> ElementTree.Element | None:
    """Return the first ``Pixels`` element of an OME block that passed the guard."""
    if not xml:
        return None
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - entities were refused, size is capped
    except ElementTree.ParseError:
        return None
    return root.find(".//{*}Pixels")


def channel_names(xml: str) -> list[str]:
    """Return the channel names of an OME block."""
    pixels = ome_pixels(xml)
    if pixels is None:
        return []
    return [channel.get("Name", "") for channel in pixels.findall("{*}Channel")]


def scale(pixel_um: float) -> DoubleArray:
    """Return the 3x3 matrix of an image whose origin is the slide's."""
    return np.diag([pixel_um, pixel_um, 1.0])


def is_rgb(path: Path, folder: Path) -> bool:
    """Tell whether an image is 8-bit colour: three samples, or three planes named like H&E."""
    return _has_colours(path, folder, planes="he_image" in path.name)


def _has_colours(path: Path, folder: Path, *, planes: bool) -> bool:
    """Tell whether an image has three 8-bit samples, or three such planes where these count."""
    with guard.open_tiff(path, folder) as tif:
        page = tif.pages.first
        if page.dtype != np.uint8:
            return False
        if page.samplesperpixel == 3:
            return True
        return planes and page.samplesperpixel == 1 and len(equal_pages(tif)) == 3


def equal_pages(tif: TiffFile) -> list[Any]:
    """Return the pages that have the size and type of the first: the rest is a flat pyramid."""
    first = tif.pages.first
    return [page for page in tif.pages if page.shape == first.shape and page.dtype == first.dtype]


def image_kind(path: Path, folder: Path) -> ImageKind:
    """Return ``he`` for 8-bit colour, ``stain`` for anything else."""
    return "he" if is_rgb(path, folder) else "stain"


def he_source(image: Path, affine: Path, morphology: float | DoubleArray) -> ImageSource:
    """Place an H&E image by its alignment.

    Parameters
    ----------
    affine
        CSV that maps H&E pixels to morphology pixels: a 3x3 matrix or keypoints.
    morphology
        Size of a morphology pixel in um; or the 3x3 matrix from its pixels to um, where the
        morphology image does not begin at the slide's origin.

    Raises
    ------
    SpatialFormerError
        If the image has no three 8-bit colours or the alignment is unusable.
    """
    if not _has_colours(image, image.parent, planes=True):
        raise SpatialFormerError(
            "An H&E image with three 8-bit colours is expected.", where=image.name
        )
    found = read_alignment(affine, affine.parent)
    base = scale(morphology) if isinstance(morphology, float) else morphology
    side_um = math.sqrt(abs(float(np.linalg.det(base[:2, :2]))))
    rms_um = None if found.rms_px is None else found.rms_px * side_um
    um_from_px = base @ found.matrix
    return ImageSource("he", "he", (image,), um_from_px, alignment_rms_um=rms_um)


class Placed(Protocol):
    """An image of a source or of a slide, as far as it says where it lies."""

    @property
    def kind(self) -> ImageKind:
        """``he`` or ``stain``."""
        ...

    @property
    def um_from_px(self) -> Any:
        """3x3 matrix from pixel (column, row) to micrometres."""
        ...


def morphology_matrix(images: Iterable[Placed]) -> DoubleArray | None:
    """Return the matrix of the image whose pixels alignments lead to, None where none is known.

    Of several stains it is the first that lies as the instrument took it, neither turned nor
    mirrored: whatever was registered to it afterwards hardly ever does.
    """
    stains = [np.asarray(i.um_from_px, np.float64) for i in images if i.kind == "stain"]
    upright = [m for m in stains if m[0, 0] > 0 and np.allclose(m[:2, :2], scale(m[0, 0])[:2, :2])]
    if upright or len(stains) == 1:
        return (upright or stains)[0]
    return None


def check_overlap(image: ImageSource, bounds_um: tuple[float, float, float, float]) -> None:
    """Refuse an image that lies beside the slide: its alignment is for something else.

    Parameters
    ----------
    bounds_um
        ``(x0, y0, x1, y1)`` of the slide.

    Raises
    ------
    SpatialFormerError
        If no corner of it, nor what lies between them, reaches the slide.
    """
    path = image.paths[0]
    with guard.open_tiff(path, path.parent) as tif:
        width, height = tif.pages.first.imagewidth, tif.pages.first.imagelength
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)])
    xy_um = corners @ image.um_from_px[:2].T
    (left, top), (right, bottom) = xy_um.min(axis=0), xy_um.max(axis=0)
    x0, y0, x1, y1 = bounds_um
    if right < x0 or left > x1 or bottom < y0 or top > y1:
        raise SpatialFormerError(
            f"Its alignment puts it beside the slide: to x {left:,.0f} to {right:,.0f}, y "
            f"{top:,.0f} to {bottom:,.0f} um; the slide lies at x {x0:,.0f} to {x1:,.0f}, y "
            f"{y0:,.0f} to {y1:,.0f} um.",
            where=path.name,
            fix="Check that image and alignment belong to this slide, and how large the pixels "
            "are that the alignment leads to.",
        )


def alignment_doubt(image: ImageSource) -> str | None:
    """Return a sentence if the keypoints of an image contradict each other."""
    rms_um = image.alignment_rms_um
    if rms_um is None or rms_um <= MAX_ALIGNMENT_RMS_UM:
        return None
    return f"{image.paths[0].name}: its keypoints disagree by {rms_um:.1f} um (root mean square)."


def placed_he(image: Path, affine: Path | None, others: list[ImageSource]) -> ImageSource:
    """Place an H&E image that the user names beside a source without pixel size of its own.

    Raises
    ------
    SpatialFormerError
        If there is no alignment, or no morphology image whose pixels it could refer to.
    """
    if affine is None:
        raise SpatialFormerError(
            "An H&E image needs its alignment.",
            where=image.name,
            fix="Give the CSV that Xenium Explorer exports: a matrix or keypoints (--he-affine).",
        )
    base = morphology_matrix(others)
    if base is None:
        raise SpatialFormerError(
            "The alignment leads to pixels of a morphology image, and there is none.",
            where=image.name,
            fix="Add the morphology image as an OME-TIFF that states its pixel size; or take the "
            "slide in without the H&E and attach it on the page Slides, where the size of a pixel "
            "can be given.",
        )
    return he_source(image, affine, base)
