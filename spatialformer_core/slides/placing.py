"""Where the images of a slide lie since somebody placed them anew; undone step by step.

A slide's own folder stays as it was written. What people decide lies beside it, as regions do.
"""

from __future__ import annotations

import datetime
from typing import Annotated

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import DoubleArray
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides.meta import ImageMeta, Row
from spatialformer_core.slides.slide import Slide

_FILE = "placing.json"
_MOST_STEPS = 50


class Placement(FrozenModel):
    """One decision where an image lies.

    Attributes
    ----------
    image
        Its name.
    size_px
        Width and height of the image that was placed: another image of that name is not.
    um_from_px
        As `ImageMeta.um_from_px`.
    rms_um
        How far the keypoints lie from their fit; None where no more than three, or a matrix, gave
        it.
    pairs
        ``(x_px, y_px, x_um, y_um)`` of the keypoints; empty for a matrix.
    made, owner
        When (ISO time, UTC) and by whom.
    """

    image: str
    size_px: tuple[int, int]
    um_from_px: tuple[Row, Row, Row]
    rms_um: float | None = None
    pairs: tuple[tuple[float, float, float, float], ...] = ()
    made: str
    owner: str = ""


class _Placements(FrozenModel):
    steps: Annotated[tuple[Placement, ...], Field(max_length=_MOST_STEPS)] = ()


def placements(slide: Slide, image: str) -> tuple[Placement, ...]:
    """Return the decisions about one image, the one that counts last; none: as ingested."""
    known = slide.image(image)
    size_px = (known.width, known.height)
    steps = _read(slide).steps
    return tuple(step for step in steps if step.image == image and step.size_px == size_px)


def placed_images(slide: Slide) -> tuple[ImageMeta, ...]:
    """Return the images of a slide as they lie now."""
    found = []
    for image in slide.meta.images:
        steps = placements(slide, image.name)
        found.append(_moved(image, steps[-1]) if steps else image)
    return tuple(found)


def place_image(
    slide: Slide,
    image: str,
    um_from_px: DoubleArray,
    *,
    rms_um: float | None = None,
    pairs: DoubleArray | None = None,
    owner: str = "",
) -> Placement:
    """Save where an image lies from now on; `unplace_image` takes it back.

    Raises
    ------
    SpatialFormerError
        If there is no such image, or the matrix cannot be inverted.
    """
    known = slide.image(image)
    determinant = float(np.linalg.det(um_from_px[:2, :2])) if np.isfinite(um_from_px).all() else 0.0
    if um_from_px.shape != (3, 3) or abs(determinant) < 1e-12:
        raise SpatialFormerError("The alignment cannot be inverted.", where=image)
    step = Placement(
        image=image,
        size_px=(known.width, known.height),
        um_from_px=_rows(um_from_px),
        rms_um=rms_um,
        pairs=() if pairs is None else tuple(tuple(map(float, pair)) for pair in pairs),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        owner=owner,
    )
    _write(slide, (*_read(slide).steps, step)[-_MOST_STEPS:])
    return step


def unplace_image(slide: Slide, image: str) -> Placement:
    """Take the last decision about an image back and return it.

    Raises
    ------
    SpatialFormerError
        If it lies as it was ingested.
    """
    of_image = placements(slide, image)
    if not of_image:
        raise SpatialFormerError(
            f"Image {image[:40]!r} lies as it was ingested.", where=slide.meta.slide_id
        )
    steps = list(_read(slide).steps)
    steps.reverse()
    steps.remove(of_image[-1])
    steps.reverse()
    _write(slide, tuple(steps))
    return of_image[-1]


def _moved(image: ImageMeta, step: Placement) -> ImageMeta:
    matrix = np.array(step.um_from_px, np.float64)
    side_um = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    return image.model_copy(
        update={
            "um_from_px": step.um_from_px,
            "pixel_size_um": side_um,
            "alignment_rms_um": step.rms_um,
        }
    )


def _rows(matrix: DoubleArray) -> tuple[Row, Row, Row]:
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    return (a, b, c), (d, e, f), (g, h, i)


def _read(slide: Slide) -> _Placements:
    path = slide.user_folder / _FILE
    if not path.is_file():
        return _Placements()
    return validate(_Placements, files.read_json(path), "placing of images")


def _write(slide: Slide, steps: tuple[Placement, ...]) -> None:
    record = _Placements(steps=steps)
    files.write_json(slide.user_folder / _FILE, record.model_dump(mode="json"))
