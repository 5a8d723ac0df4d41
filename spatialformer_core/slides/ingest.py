"""From a source folder to a slide of the store."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from spatialformer_core import files, io
from spatialformer_core import progress as progress_
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.pyramid import TILE_PX, write_pyramid
from spatialformer_core.io.records import ImageSource
from spatialformer_core.slides.build import SlideBuild, default_group
from spatialformer_core.slides.meta import ChannelMeta, ImageMeta, IngestReport, SlideMeta
from spatialformer_core.slides.store import SlideStore, slug
from spatialformer_core.slides.zarr_store import write_zarr


class IngestOptions(TypedDict, total=False):
    """What may be given besides the source.

    ``he`` and ``he_affine`` are an H&E OME-TIFF with its 3x3 alignment CSV, ``labels`` a CSV
    ``cell_id,group``; ``um_per_px`` the micrometres of one unit of a source that keeps pixels;
    ``default_group`` is the grouping shown first; ``replace`` lets a slide of
    the same name give way (its regions of interest stay).
    """

    he: Path | None
    he_affine: Path | None
    labels: Path | None
    um_per_px: float | None
    default_group: str | None
    replace: bool


def ingest(
    source: Path,
    store: SlideStore,
    *,
    name: str,
    sample: SampleMetadata,
    qc: QcThresholds,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
    **options: Unpack[IngestOptions],
) -> IngestReport:
    """Read, check and store a slide. It appears whole, or the store stays as it was.

    Cells that fail QC stay in the slide, marked; they count for density and composition.

    Parameters
    ----------
    source
        Any folder or file that `io.read_source` knows.
    name
        Name of the slide; its id is derived from it.

    Raises
    ------
    SpatialFormerError
        If the name is taken, anything in the source cannot be used, or the disk is full.
    """
    slide_id = slug(name)
    replace = options.get("replace", False)
    store.sweep()
    if store.exists(slide_id) and not replace:
        raise SpatialFormerError(
            f"A slide {slide_id!r} exists already.",
            where="name",
            fix="Choose another name or remove that slide first.",
        )
    data = io.read_source(
        source,
        he=options.get("he"),
        he_affine=options.get("he_affine"),
        labels=options.get("labels"),
        um_per_px=options.get("um_per_px"),
        progress=progress_.staged(progress, 0.0, 0.4),
        cancel=cancel,
    )
    built = SlideBuild(data, qc, default_group(data.cells.groups, options.get("default_group")))
    identity = {"slide_id": slide_id, "name": name, "sample": sample}
    identity["source"] = source.resolve().name
    progress_.check(cancel)
    needed = built.needed_bytes()
    target = store.path(slide_id)
    with files.atomic_directory(target, replace=replace, needed_bytes=needed) as folder:
        meta = _fill(folder, built, identity, progress_.staged(progress, 0.4, 1.0), cancel)
        progress_.check(cancel)
    progress(1.0, 1.0, "Done")
    return _report(meta, data.transcripts.n)


def _fill(
    folder: Path,
    built: SlideBuild,
    identity: dict[str, Any],
    progress: progress_.Progress,
    cancel: progress_.Cancel,
) -> SlideMeta:
    """Write everything that a slide consists of into a folder that is not visible yet."""
    images = _write_images(
        folder / "image", built.data.images, progress_.staged(progress, 0.0, 0.35), cancel
    )
    progress(0.35, 1.0, "Writing the index")
    built.write_index(folder / "index")
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta = SlideMeta(images=images, created=created, **identity, **built.facts())
    progress_.check(cancel)
    progress(0.5, 1.0, "Writing the SpatialData store")
    write_zarr(folder / "slide.zarr", meta, built.arrays, built.data.transcripts)
    files.write_json(folder / "meta.json", meta.model_dump(mode="json"))
    return meta


def _write_images(
    folder: Path,
    sources: tuple[ImageSource, ...],
    progress: progress_.Progress,
    cancel: progress_.Cancel,
) -> tuple[ImageMeta, ...]:
    folder.mkdir()
    written: list[ImageMeta] = []
    for position, source in enumerate(sources):
        share = position / len(sources)
        inner = progress_.staged(progress, share, share + 1 / len(sources))
        taken = {image.name for image in written}
        written.append(write_image(folder, source, taken, inner, cancel))
    write_image_list(folder, written)
    return tuple(written)


def write_image_list(folder: Path, images: Sequence[ImageMeta]) -> None:
    """Write what is known of a slide's images beside them."""
    files.write_json(folder / "image.json", [image.model_dump(mode="json") for image in images])


def write_image(
    folder: Path,
    source: ImageSource,
    taken: Set[str],
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> ImageMeta:
    """Write the pyramid of one image into the image folder of a slide that is being built.

    Parameters
    ----------
    taken
        Names of the slide's other images.

    Raises
    ------
    SpatialFormerError
        If the image cannot be read.
    """
    name = _image_name(source.name, taken)
    info = write_pyramid(source, folder / f"{name}.ome.tif", progress, cancel)
    channels = tuple(
        ChannelMeta(name=channel, low=low, high=high)
        for channel, (low, high) in zip(info.channels, info.limits, strict=True)
    )
    rows = [tuple(float(v) for v in row) for row in source.um_from_px]
    pixel_um = float(np.sqrt(abs(np.linalg.det(source.um_from_px[:2, :2]))))
    return ImageMeta.model_validate(
        {
            "name": name,
            "kind": source.kind,
            "channels": channels,
            "width": info.width,
            "height": info.height,
            "levels": info.levels,
            "tile_px": TILE_PX,
            "um_from_px": rows,
            "pixel_size_um": pixel_um,
            "alignment_rms_um": source.alignment_rms_um,
        }
    )


def _image_name(stem: str, taken: Set[str]) -> str:
    """Return a file name for an image: letters, digits and ``-``, different from the others."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "image"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return plain if plain not in taken else next(name for name in numbered if name not in taken)


def _report(meta: SlideMeta, transcripts_in: int) -> IngestReport:
    return IngestReport(
        slide_id=meta.slide_id,
        cells_in=meta.n_cells,
        cells_kept=meta.n_cells_kept,
        transcripts_in=transcripts_in,
        transcripts_kept=meta.n_transcripts,
        dropped=meta.dropped,
        retention_per_type=meta.retention_per_type,
        missing=meta.missing,
        mismatch=meta.mismatch,
    )
