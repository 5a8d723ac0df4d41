"""Changes of a slide that is there: its groupings, its images, what its sample is.

A changed slide is built beside the old one and takes its place in one step, as a new one would.
Whatever stays has a second name only (a hard link): nothing below writes into an existing file.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import disk, files
from spatialformer_core import progress as progress_
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Groups, ImageSource
from spatialformer_core.keys import Elements
from spatialformer_core.slides import index
from spatialformer_core.slides.build import default_group, retention_per_type
from spatialformer_core.slides.ingest import write_image, write_image_list
from spatialformer_core.slides.meta import ImageMeta, SlideMeta
from spatialformer_core.slides.rebuild import link_or_copy, without_files
from spatialformer_core.slides.slide import Slide
from spatialformer_core.slides.store import SlideStore
from spatialformer_core.slides.zarr_store import group_column

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What SpatialData allows as the name of a column, and no longer than people read."""


@dataclass(frozen=True, slots=True)
class SlideChange:
    """What shall be different; everything else stays.

    Attributes
    ----------
    groups
        Groupings to add. One of a name that is there gives way only if it is dropped as well.
    drop_groups, drop_images
        Names of groupings and images to leave out.
    image
        An image to add.
    sample, name
        What the slide is, and how it is called; its id stays.
    default_group
        The grouping shown first; None keeps it where it is still there.
    """

    groups: Mapping[str, Groups] = field(default_factory=dict)
    drop_groups: tuple[str, ...] = ()
    image: ImageSource | None = None
    drop_images: tuple[str, ...] = ()
    sample: SampleMetadata | None = None
    name: str | None = None
    default_group: str | None = None


def change_slide(
    store: SlideStore,
    slide_id: str,
    change: SlideChange,
    *,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SlideMeta:
    """Change a slide: it is the old one or the new one at any moment, never something between.

    Raises
    ------
    SpatialFormerError
        If there is no such slide, it is damaged, somebody else changes it now, a name is taken or
        not there, the image cannot be read, or the disk is full.
    """
    folder = store.path(slide_id)
    slide = store.open(slide_id)
    with _alone(folder):
        groups = _groups_after(slide, change)
        images = _images_after(slide.meta, change)
        progress(0.05, 1.0, "Checking the slide")
        found = store.differences(slide_id)
        if found.missing or found.changed:
            raise SpatialFormerError(
                f"The slide is damaged: {' '.join(found.sentences()[:2])}",
                where=slide_id,
                fix=f"Run `spatialformer slides rebuild {slide_id}`, or ingest its source again.",
            )
        progress_.check(cancel)
        # An image that goes is not even linked: another of its name would be written into it.
        gone = (f"image/{name}.ome.tif" for name in change.drop_images)
        ignored = {folder / name for name in (files.MANIFEST, *found.extra, *gone)}
        needed = 1 << 22 if change.image is None else _image_bytes(change.image)
        with files.atomic_directory(folder, replace=True, needed_bytes=needed) as new:
            shutil.copytree(
                folder,
                new,
                copy_function=link_or_copy,
                ignore=without_files(ignored),
                dirs_exist_ok=True,
            )
            if change.image is not None:
                inner = progress_.staged(progress, 0.2, 0.8)
                taken = set(images)
                written = write_image(new / "image", change.image, taken, inner, cancel)
                images[written.name] = written
            progress(0.8, 1.0, "Writing the slide")
            meta = _rewrite(new, slide, change, groups, images=tuple(images.values()))
            progress_.check(cancel)
            progress(0.9, 1.0, "Publishing the slide")
    progress(1.0, 1.0, "Done")
    return meta


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other changes of a slide out; a change that began before this one is not undone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_current = os.fstat(descriptor).st_ino == folder.stat().st_ino
        if not disk.try_lock(descriptor) or not is_current:
            raise SpatialFormerError(
                "Somebody else is changing this slide now.",
                where=folder.name,
                fix="Try again when that is done.",
            )
        yield
    finally:
        os.close(descriptor)


def _groups_after(slide: Slide, change: SlideChange) -> dict[str, Groups]:
    unknown = [key for key in change.drop_groups if key not in slide.group_keys]
    if unknown:
        raise SpatialFormerError(
            f"There is no grouping {unknown[0][:40]!r}.",
            where=slide.meta.slide_id,
            fix=f"Groupings: {', '.join(slide.group_keys) or 'none'}.",
        )
    kept = [key for key in slide.group_keys if key not in change.drop_groups]
    for key, value in change.groups.items():
        if not _KEY.fullmatch(key):
            raise SpatialFormerError(
                f"{key[:80]!r} cannot name a grouping.",
                fix="Use 1-64 letters, digits, '_', '.', '-', beginning with a letter or digit.",
            )
        # SpatialData tells the columns of a table apart without regard to letter case.
        if key.lower() in {name.lower() for name in (*kept, *_fixed_columns(slide.meta))}:
            raise SpatialFormerError(
                f"The slide has {key!r} already.",
                where=slide.meta.slide_id,
                fix="Choose another name; nothing is overwritten.",
            )
        if len(value.codes) != slide.meta.n_cells:
            raise SpatialFormerError(
                f"Grouping {key!r} has {len(value.codes):,} cells, the slide "
                f"{slide.meta.n_cells:,}.",
                where=slide.meta.slide_id,
            )
    old = {key: slide.group(key) for key in kept}
    plain = {key: Groups(g.categories, np.array(g.codes, np.int16)) for key, g in old.items()}
    return plain | dict(change.groups)


def _fixed_columns(meta: SlideMeta) -> frozenset[str]:
    """Return the columns of the table that hold the sample's facts: no grouping may take them."""
    return frozenset(SampleMetadata.model_fields) - set(meta.group_keys)


def _images_after(meta: SlideMeta, change: SlideChange) -> dict[str, ImageMeta]:
    names = {image.name: image for image in meta.images}
    unknown = [name for name in change.drop_images if name not in names]
    if unknown:
        raise SpatialFormerError(f"There is no image {unknown[0][:40]!r}.", where=meta.slide_id)
    return {name: image for name, image in names.items() if name not in change.drop_images}


def _image_bytes(image: ImageSource) -> int:
    return (1 << 22) + sum(path.stat().st_size for path in image.paths)


def _rewrite(
    new: Path,
    slide: Slide,
    change: SlideChange,
    groups: dict[str, Groups],
    images: tuple[ImageMeta, ...],
) -> SlideMeta:
    """Write what differs into the copy of a slide."""
    old = slide.meta
    first = old.default_group
    if change.default_group is not None or first not in groups:
        first = default_group(groups, change.default_group)
    meta = old.model_copy(
        update={
            "group_keys": tuple(sorted(groups)),
            "default_group": first,
            "retention_per_type": retention_per_type(groups, first, np.asarray(slide.passes_qc)),
            "images": images,
            "sample": change.sample or old.sample,
            "name": change.name or old.name,
            "changed": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        }
    )
    shutil.rmtree(new / "index" / "groups")
    index.write_groups(new / "index", groups)
    write_image_list(new / "image", images)
    _rewrite_table(new / "slide.zarr", meta, change)
    files.write_json(new / "meta.json", meta.model_dump(mode="json"))
    return meta


def _rewrite_table(zarr_path: Path, meta: SlideMeta, change: SlideChange) -> None:
    """Write the columns of the SpatialData table that differ."""
    import anndata
    import pandas as pd
    import zarr

    dropped = [group_column(key) for key in change.drop_groups]
    columns = {
        group_column(key): pd.Categorical.from_codes(value.codes, list(value.categories))
        for key, value in change.groups.items()
    }
    if change.sample is not None:
        facts = change.sample.model_dump()
        columns |= {
            key: pd.Categorical([facts[key]] * meta.n_cells) for key in sorted(_fixed_columns(meta))
        }
    if not dropped and not columns:
        return
    with warnings.catch_warnings():
        # Deprecations between anndata and zarr are no concern of whoever changes a slide.
        warnings.simplefilter("ignore")
        root = zarr.open_group(zarr_path, mode="r+", use_consolidated=False)
        obs: Any = root[f"tables/{Elements.TABLE}/obs"]
        order = [name for name in obs.attrs["column-order"] if name not in dropped]
        for name in (*dropped, *(name for name in columns if name in obs)):
            # The names go; what other names still lead to stays as it was.
            if name in obs:
                del obs[name]
        for name, column in columns.items():
            anndata.io.write_elem(obs, name, column)
        obs.attrs["column-order"] = [*order, *(name for name in columns if name not in order)]
        zarr.consolidate_metadata(root.store)
