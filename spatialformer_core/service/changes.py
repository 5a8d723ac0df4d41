"""Changes of a slide that is there, as jobs: labels, H&E, names of cell types, sample, removal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from spatialformer_core import files
from spatialformer_core.arrays import DoubleArray
from spatialformer_core.config import FrozenModel, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import ensure_worker
from spatialformer_core.progress import Cancel, Progress
from spatialformer_core.service.roi_tools import region_groups
from spatialformer_core.service.rois import check_regions
from spatialformer_core.service.settings import load_config, source_roots
from spatialformer_core.service.sources import file_path

if TYPE_CHECKING:
    from spatialformer_core.service.facade import Services
    from spatialformer_core.slides import Groups, Slide, SlideChange, SlideMeta

KIND = "change"
REPORT = "change.json"
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_MAX_NAME = 64


class _Change(FrozenModel):
    slide_id: _Id


class LabelsChange(_Change):
    """Adds the columns of a labels CSV (``cell_id,group``) as groupings.

    ``replace`` lets groupings of the same names give way; without it the new ones get a number.
    """

    action: Literal["labels"] = "labels"
    file_id: _Id
    replace: bool = False


class ImageChange(_Change):
    """Adds an H&E image, or replaces the H&E images that the slide has.

    ``pixel_um`` is the size of a pixel of the image that the alignment leads to, whose corner is
    the slide's origin; None takes the slide's own stain image, as it lies.
    """

    action: Literal["image"] = "image"
    image_id: _Id
    affine_id: _Id
    pixel_um: float | None = Field(default=None, gt=0, le=1000)
    replace: bool = False


class NamesChange(_Change):
    """Names the groups of a grouping and keeps the result as a new grouping.

    ``names`` gives the new name of a group; groups of one name become one, an empty name means
    that its cells have no type, and a group that is not named keeps its own name.
    """

    action: Literal["names"] = "names"
    groupby: str = Field(min_length=1, max_length=128)
    names: dict[str, Annotated[str, Field(max_length=_MAX_NAME)]]
    key: str = Field(min_length=1, max_length=_MAX_NAME)
    make_default: bool = True


class SampleChange(_Change):
    """Says anew what the slide is and how it is called."""

    action: Literal["sample"] = "sample"
    sample: SampleMetadata
    name: str = Field(min_length=1, max_length=_MAX_NAME)


class DropChange(_Change):
    """Leaves out groupings or images."""

    action: Literal["drop"] = "drop"
    groups: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


class DefaultChange(_Change):
    """Chooses the grouping that is shown first and whose retention the card gives."""

    action: Literal["default"] = "default"
    key: str = Field(min_length=1, max_length=128)


class RegionsChange(_Change):
    """Adds a grouping: in which of some regions, or sets of regions, each cell lies.

    ``sides`` names regions by id under what their cells are called; cells of two sides, and of
    none, belong to no group.
    """

    action: Literal["regions"] = "regions"
    key: str = Field(min_length=1, max_length=_MAX_NAME)
    sides: dict[
        Annotated[str, Field(min_length=1, max_length=_MAX_NAME)],
        Annotated[tuple[_Id, ...], Field(min_length=1)],
    ] = Field(min_length=1)


AnyChange = Annotated[
    LabelsChange
    | ImageChange
    | NamesChange
    | SampleChange
    | DropChange
    | DefaultChange
    | RegionsChange,
    Field(discriminator="action"),
]
_ANY: TypeAdapter[Any] = TypeAdapter(AnyChange)


class ChangeReport(FrozenModel):
    """What a change did: sentences for people, and the groupings and images that it added."""

    slide_id: str
    action: str
    said: tuple[str, ...]
    groups: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def start_change(services: Services, change: Any, owner: str) -> str:
    """Queue a change and return the job id.

    Parameters
    ----------
    change
        One of the changes of this module.

    Raises
    ------
    SpatialFormerError
        If the slide, a file, a region that the owner sees, or what shall be changed is not there.
    """
    slide = services.slide(change.slide_id)
    _check(services, slide, change, owner)
    job_id = services.queue.submit(KIND, change.model_dump(mode="json"), owner)
    ensure_worker(services.home)
    return job_id


def change_report(services: Services, job_id: str, owner: str | None = None) -> ChangeReport:
    """Return what a finished change did.

    Raises
    ------
    SpatialFormerError
        If the job is not done or of another kind.
    """
    values = files.read_json(services.queue.result(job_id, owner, KIND) / REPORT)
    return ChangeReport.model_validate(values)


def remove_slide(services: Services, slide_id: str, typed: str) -> None:
    """Remove a slide with its regions and what was measured on it, for good.

    Parameters
    ----------
    typed
        The slide's name or id, typed by whoever removes it.

    Raises
    ------
    SpatialFormerError
        If something else was typed, or a job that waits or runs needs the slide.
    """
    meta = services.slide(slide_id).meta
    if typed.strip() not in (meta.name, meta.slide_id):
        raise SpatialFormerError(
            f"{typed.strip()[:60]!r} is not the name of the slide.",
            fix=f"Type {meta.name!r} to remove it.",
        )
    # In quotes: a job on another slide whose id begins alike does not need this one.
    waiting = [str(job.params) for job in services.jobs() if not job.is_ended]
    if any(repr(slide_id) in params for params in waiting):
        raise SpatialFormerError(
            "A job that waits or runs needs this slide.",
            where=meta.name,
            fix="Cancel it on the page Jobs, or wait for its end.",
        )
    services.store.remove(slide_id)


def explorer_csv(slide: Slide, groupby: str) -> str:
    """Return a grouping as Xenium Explorer reads it: ``cell_id,group``, cells without one absent.

    Raises
    ------
    SpatialFormerError
        If the slide has no such grouping.
    """
    import pandas as pd

    groups = slide.group(groupby)
    codes = np.asarray(groups.codes)
    names = np.array(groups.categories or ("",), dtype=object)
    frame = pd.DataFrame({"cell_id": slide.cell_ids[codes >= 0], "group": names[codes[codes >= 0]]})
    text: str = frame.to_csv(index=False)
    return text


def run_change_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued change; writes ``change.json``.

    Raises
    ------
    SpatialFormerError
        If anything of it is gone by now, or a file cannot be used; the slide stays as it was.
    """
    from spatialformer_core.service.spillover import forget_spillover
    from spatialformer_core.slides import SlideStore, change_slide

    try:
        request = _ANY.validate_python(params)
    except ValidationError as error:
        raise SpatialFormerError(
            f"The change cannot be read: {error.error_count()} fields are wrong.", where="change"
        ) from error
    home = files.home()
    store = SlideStore(home)
    slide = store.open(request.slide_id)
    change, said = _as_change(source_roots(home, load_config(home)), slide, request)
    meta = change_slide(store, request.slide_id, change, progress=progress, cancel=cancel)
    for key in change.drop_groups:
        forget_spillover(slide, key)
    added = {image.name for image in meta.images} - {image.name for image in slide.meta.images}
    report = ChangeReport(
        slide_id=meta.slide_id,
        action=request.action,
        said=said,
        groups=tuple(sorted(change.groups)),
        images=tuple(sorted(added)),
    )
    files.write_json(out / REPORT, report.model_dump(mode="json"))


def free_key(name: str, taken: Iterable[str]) -> str:
    """Return a name for a grouping that the slide has not: ``name``, ``name_2``, ..."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[: _MAX_NAME - 4] or "groups"
    used = {key.lower() for key in taken} | set(SampleMetadata.model_fields)
    numbered = (f"{plain}_{number}" for number in range(2, len(used) + 3))
    return (
        plain if plain.lower() not in used else next(k for k in numbered if k.lower() not in used)
    )


def renamed(groups: Groups, names: Mapping[str, str]) -> Groups:
    """Return groups under other names: those of one name become one, an empty name is no group."""
    from spatialformer_core.slides import Groups as Made

    new = [names.get(old, old).strip() for old in groups.categories]
    categories = sorted({name for name in new if name})
    place = {name: number for number, name in enumerate(categories)}
    table = np.array([*(place.get(name, -1) for name in new), -1], np.int16)
    return Made(tuple(categories), table[np.asarray(groups.codes)])


def _check(services: Services, slide: Slide, change: Any, owner: str) -> None:
    """Refuse before it is queued what the job would refuse; it checks again."""
    roots = source_roots(services.home, services.config)
    if isinstance(change, LabelsChange):
        file_path(roots, change.file_id, "table")
    elif isinstance(change, ImageChange):
        file_path(roots, change.image_id, "image")
        file_path(roots, change.affine_id, "table")
        _morphology(slide.meta, change.pixel_um)
    elif isinstance(change, NamesChange):
        _named(slide, change)
    elif isinstance(change, DefaultChange):
        slide.group(change.key)
    elif isinstance(change, RegionsChange):
        named = [roi_id for roi_ids in change.sides.values() for roi_id in roi_ids]
        check_regions(services, [change.slide_id], named, owner)
        region_groups(slide, change.sides)


def _as_change(
    roots: tuple[Path, ...], slide: Slide, request: Any
) -> tuple[SlideChange, tuple[str, ...]]:
    """Return what the store shall change, and what there is to say about it."""
    from spatialformer_core.slides import SlideChange

    if isinstance(request, LabelsChange):
        return _labels(file_path(roots, request.file_id, "table"), slide, replace=request.replace)
    if isinstance(request, ImageChange):
        return _image(roots, slide, request)
    if isinstance(request, NamesChange):
        groups = _named(slide, request)
        first = request.key if request.make_default else None
        said = f"{request.key}: {len(groups.categories)} types from {request.groupby}."
        return SlideChange(groups={request.key: groups}, default_group=first), (said,)
    if isinstance(request, RegionsChange):
        groups, said = region_groups(slide, request.sides)
        return SlideChange(groups={request.key: groups}), (said,)
    return _of_facts(request)


def _of_facts(request: Any) -> tuple[SlideChange, tuple[str, ...]]:
    """Return changes that need nothing but what they say."""
    from spatialformer_core.slides import SlideChange

    if isinstance(request, SampleChange):
        change = SlideChange(sample=request.sample, name=request.name.strip())
        return change, ("Its sample is described anew.",)
    if isinstance(request, DropChange):
        change = SlideChange(drop_groups=request.groups, drop_images=request.images)
        return change, (f"Removed: {', '.join((*request.groups, *request.images))}.",)
    return SlideChange(default_group=request.key), (f"{request.key} is shown first.",)


def _named(slide: Slide, change: NamesChange) -> Groups:
    groups = slide.group(change.groupby)
    if change.key.lower() in {key.lower() for key in slide.group_keys}:
        raise SpatialFormerError(
            f"The slide has a grouping {change.key!r} already.",
            where=slide.meta.name,
            fix=f"Choose another name, for example {free_key(change.key, slide.group_keys)!r}.",
        )
    found = renamed(groups, change.names)
    if not found.categories:
        raise SpatialFormerError("No group has a name.", fix="Name at least one of them.")
    return found


def _labels(path: Path, slide: Slide, *, replace: bool) -> tuple[SlideChange, tuple[str, ...]]:
    from spatialformer_core.io.labels import read_labels
    from spatialformer_core.slides import SlideChange

    found = read_labels(path, path.parent, np.asarray(slide.cell_ids))
    taken = list(slide.group_keys)
    dropped, groups = [], {}
    for name, value in found.groups.items():
        if replace and name in taken:
            dropped.append(name)
            groups[name] = value
        else:
            groups[free_key(name, [*taken, *groups])] = value
    n_cells = slide.meta.n_cells
    said = [f"{path.name}: {n_cells - found.n_unlabelled:,} of {n_cells:,} cells have a label."]
    if found.n_unknown:
        said.append(f"{found.n_unknown:,} of its labels name no cell of this slide.")
    said += [f"{key}: {len(value.categories)} groups." for key, value in groups.items()]
    return SlideChange(groups=groups, drop_groups=tuple(dropped)), tuple(said)


def _image(
    roots: tuple[Path, ...], slide: Slide, request: ImageChange
) -> tuple[SlideChange, tuple[str, ...]]:
    from spatialformer_core.io.images import alignment_doubt, check_overlap, he_source
    from spatialformer_core.slides import SlideChange

    image = file_path(roots, request.image_id, "image")
    affine = file_path(roots, request.affine_id, "table")
    source = he_source(image, affine, _morphology(slide.meta, request.pixel_um))
    check_overlap(source, slide.meta.bounds_um)
    old = [entry.name for entry in slide.meta.images if entry.kind == "he"]
    said = [f"{image.name} is part of the slide."]
    if (doubt := alignment_doubt(source)) is not None:
        said.append(f"{doubt} Look at it on the page Tissue before you trust it.")
    elif source.alignment_rms_um is not None:
        said.append(f"Its keypoints fit to {source.alignment_rms_um:.2f} um (root mean square).")
    dropped = tuple(old) if request.replace else ()
    return SlideChange(image=source, drop_images=dropped), tuple(said)


def morphology_um(meta: SlideMeta) -> float | None:
    """Return the side of a pixel that alignments lead to; None where the slide does not tell."""
    from spatialformer_core.io.images import morphology_matrix

    found = morphology_matrix(meta.images)
    return None if found is None else float(np.hypot(*found[:2, 0]))


def _morphology(meta: SlideMeta, pixel_um: float | None) -> DoubleArray:
    from spatialformer_core.io.images import morphology_matrix, scale

    found = morphology_matrix(meta.images) if pixel_um is None else scale(pixel_um)
    if found is not None:
        return found
    raise SpatialFormerError(
        "The alignment leads to a morphology image; the slide has none that lies as it was taken.",
        where=meta.name,
        fix="Say how many micrometres one of its pixels is; Xenium: 0.2125.",
    )
