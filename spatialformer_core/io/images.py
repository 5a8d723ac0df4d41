"""Which images a folder holds and where they lie on the slide."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.records import ImageKind, ImageSource

_UM_PER_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_MAX_AFFINE_BYTES = 65_536


def read_affine(path: Path, folder: Path) -> DoubleArray:
    """Read the 3x3 alignment that Xenium Explorer writes (H&E pixel to morphology pixel).

    Raises
    ------
    SpatialFormerError
        If it is no 3x3 matrix of finite numbers, its last row is not ``0,0,1``, or it is
        singular.
    """
    guard.check_file(path, folder)
    wanted = "Three lines of three numbers are expected, the last one 0,0,1."
    if path.stat().st_size > _MAX_AFFINE_BYTES:
        raise SpatialFormerError("The alignment file is too large.", where=path.name, fix=wanted)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[float(value) for value in row] for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise SpatialFormerError(
            f"The alignment holds something else than numbers: {error}.", path.name, wanted
        ) from error
    if [len(row) for row in rows] != [3, 3, 3]:
        raise SpatialFormerError("The alignment is no 3x3 matrix.", path.name, wanted)
    matrix = np.array(rows, np.float64)
    last_row_ok = np.allclose(matrix[2], [0, 0, 1], atol=1e-9)
    determinant = float(np.linalg.det(matrix)) if np.isfinite(matrix).all() else math.nan
    if not last_row_ok or not math.isfinite(determinant) or abs(determinant) < 1e-9:
        raise SpatialFormerError("The alignment cannot be inverted.", path.name, wanted)
    return matrix


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
    with guard.open_tiff(path, folder) as tif:
        page = tif.pages.first
        if page.dtype != np.uint8:
            return False
        if page.samplesperpixel == 3:
            return True
        return "he_image" in path.name and len(tif.pages) == 3


def image_kind(path: Path, folder: Path) -> ImageKind:
    """Return ``he`` for 8-bit colour, ``stain`` for anything else."""
    return "he" if is_rgb(path, folder) else "stain"


def he_source(image: Path, affine: Path, morphology_um: float) -> ImageSource:
    """Place an H&E image by its alignment.

    Parameters
    ----------
    affine
        CSV that maps H&E pixels to morphology pixels.
    morphology_um
        Size of a morphology pixel.

    Raises
    ------
    SpatialFormerError
        If the image has no three 8-bit colours or the alignment is unusable.
    """
    if not is_rgb(image, image.parent):
        raise SpatialFormerError(
            "An H&E image with three 8-bit colours is expected.", where=image.name
        )
    um_from_px = scale(morphology_um) @ read_affine(affine, affine.parent)
    return ImageSource("he", "he", (image,), um_from_px)


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
            fix="Give the 3x3 CSV that Xenium Explorer exports (--he-affine).",
        )
    stain = next((other for other in others if other.kind == "stain"), None)
    if stain is None:
        raise SpatialFormerError(
            "The alignment refers to pixels of a morphology image, and there is none.",
            where=image.name,
            fix="Add the morphology image as an OME-TIFF that states its pixel size.",
        )
    return he_source(image, affine, float(stain.um_from_px[0, 0]))
