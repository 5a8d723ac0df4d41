"""Images of a Xenium folder, under the names that each version of the instrument gives them."""

from __future__ import annotations

import re
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, images
from spatialformer_core.io.records import ImageSource
from spatialformer_core.io.request import SourceRequest

FOCUS_FOLDER = "morphology_focus"
SINGLE_FILES = ("morphology_focus.ome.tif", "morphology_mip.ome.tif", "morphology.ome.tif")
"""Version 1 writes the first two; the z-stack is there in every version."""

_CHANNEL = re.compile(r"^(morphology_focus_\d{4}|ch\d{4}_[A-Za-z0-9_.-]+)\.ome\.tif$")
"""One file per channel: versions 2 and 3, then version 4."""


def morphology(folder: Path) -> tuple[Path, ...]:
    """Return the files of the morphology image, one per channel; empty if there is none."""
    several = folder / FOCUS_FOLDER
    if several.is_dir():
        paths = sorted(p for p in several.iterdir() if _CHANNEL.match(p.name))
        if paths:
            return tuple(paths)
    return next(((folder / n,) for n in SINGLE_FILES if (folder / n).exists()), ())


def find(
    request: SourceRequest, pixel_um: float | None, missing: list[str]
) -> tuple[ImageSource, ...]:
    """Return the images of a folder and where they lie; what is left out joins ``missing``.

    Raises
    ------
    SpatialFormerError
        If an image is refused, or one that the user names cannot be placed.
    """
    folder = request.source
    found: list[ImageSource] = []
    paths = morphology(folder)
    for path in paths:
        guard.check_file(path, folder)
    if not paths:
        missing.append("No morphology image.")
    elif (size := pixel_um or images.pixel_size_um(paths[0], folder)) is None:
        missing.append(f"{paths[0].name}: its pixel size is not known; left out.")
    else:
        pixel_um = size
        found.append(ImageSource("morphology", "stain", paths, images.scale(size)))
    he = request.he or next(iter(sorted(folder.glob("*he_image.ome.tif"))), None)
    if he is None:
        missing.append("No H&E image.")
        return tuple(found)
    placed = _place(request, he, pixel_um, missing)
    return tuple(found) if placed is None else (*found, placed)


def _place(
    request: SourceRequest, he: Path, pixel_um: float | None, missing: list[str]
) -> ImageSource | None:
    folder = request.source
    if request.he is None:
        guard.check_file(he, folder)
    affine = request.he_affine or _alignment_beside(he)
    if affine is None or pixel_um is None:
        lacking = "its alignment CSV" if affine is None else "the morphology's pixel size"
        if request.he is not None:
            raise SpatialFormerError(f"The H&E image cannot be placed without {lacking}.", he.name)
        missing.append(f"{he.name}: cannot be placed without {lacking}; left out.")
        return None
    if request.he_affine is None:
        guard.check_file(affine, affine.parent)
    placed = images.he_source(he, affine, pixel_um)
    doubt = images.alignment_doubt(placed)
    if doubt is not None:
        missing.append(doubt)
    return placed


def _alignment_beside(he: Path) -> Path | None:
    """Return the matrix that lies beside an H&E image, else its keypoints."""
    stem = he.with_name(he.name.removesuffix(".ome.tif"))
    names = (f"{stem.name}alignment.csv", f"{stem.name}keypoints.csv", f"{stem.name}_keypoints.csv")
    return next((he.with_name(n) for n in names if he.with_name(n).exists()), None)
