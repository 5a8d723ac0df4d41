"""Which images a folder holds and where they lie on the slide."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
    stain = next((other for other in others if other.kind == "stain"), None)
    if stain is None:
        raise SpatialFormerError(
            "The alignment refers to pixels of a morphology image, and there is none.",
            where=image.name,
            fix="Add the morphology image as an OME-TIFF that states its pixel size.",
        )
    return he_source(image, affine, np.asarray(stain.um_from_px, np.float64))
