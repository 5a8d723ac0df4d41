"""Files for a slide that is there: labels, H&E, regions; and what it has so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import downloads, progress
from pages.ui.session import errors_shown, owner, remember, services
from pages.ui.text import number, plural
from spatialformer_core.service import changes

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_REGION_FILE_MB = 20


def start(change: changes.AnyChange, message: str) -> None:
    """Queue a change of a slide and say so."""
    changes.start_change(services(), change, owner())
    remember(message)
    st.rerun()


def last_report(meta: SlideMeta) -> None:
    """Say what the newest change of a slide did, until the visitor has seen it."""
    of_slide = (j for j in progress.jobs_of(changes.KIND) if j.params["slide_id"] == meta.slide_id)
    job = next(of_slide, None)
    if job is None or job.status != "done" or progress.is_seen(job):
        return
    message, button = st.columns([9, 1], vertical_alignment="center")
    with message, errors_shown():
        said = changes.change_report(services(), job.id, owner()).said
        st.success("\n\n".join(said), icon=":material/check_circle:")
    with button:
        progress.dismiss_button(job)


def _files(kind: str) -> dict[str, str]:
    return {file.id: file.name for file in services().attachable() if file.kind == kind}


def _choose(label: str, kind: str, key: str, explanation: str) -> str | None:
    names = _files(kind)
    return st.selectbox(
        label,
        list(names),
        index=None,
        format_func=names.__getitem__,
        key=key,
        placeholder="Choose" if names else f"No {kind} in the allowed folders; upload one above",
        help=explanation,
    )


def _labels(meta: SlideMeta) -> None:
    st.markdown("**Cell types from a table**")
    chosen = _choose(
        "Labels",
        "table",
        f"attach-labels-{meta.slide_id}",
        "CSV with the columns cell_id and group, as Xenium Explorer reads and writes them; further "
        "columns become further groupings. The slide's own ids are compared, letter by letter.",
    )
    replace = st.checkbox(
        "Let groupings of the same names give way",
        key=f"attach-labels-replace-{meta.slide_id}",
        help="Without it the new ones get a number, and nothing is lost.",
    )
    if st.button(
        "Attach labels",
        key=f"attach-labels-go-{meta.slide_id}",
        icon=":material/label:",
        disabled=chosen is None,
    ):
        with errors_shown():
            change = changes.LabelsChange(
                slide_id=meta.slide_id, file_id=chosen or "", replace=replace
            )
            start(change, "The labels are being attached.")


def _image(meta: SlideMeta) -> None:
    st.markdown("**H&E image**")
    sid = meta.slide_id
    explanation = "A pyramidal OME-TIFF of the same section."
    image = _choose("Image", "image", f"attach-he-{sid}", explanation)
    affine = _choose(
        "Alignment",
        "table",
        f"attach-affine-{sid}",
        "CSV: the 3x3 matrix or the keypoints that Xenium Explorer writes.",
    )
    known = changes.morphology_um(meta)
    pixel_um = st.number_input(
        "Micrometres per pixel that the alignment leads to",
        min_value=0.0,
        value=None,
        format="%g",
        key=f"attach-pixel-{sid}",
        placeholder="Xenium: 0.2125" if known is None else f"The slide's stain: {number(known, 4)}",
        help="Needed where the slide has no stain image that tells it. A number given here counts "
        "from the slide's origin; without one the stain is taken where it lies.",
    )
    has_one = any(entry.kind == "he" for entry in meta.images)
    replace = has_one and st.checkbox("Replace the H&E that is there", key=f"attach-he-new-{sid}")
    if st.button(
        "Attach image",
        key=f"attach-he-go-{sid}",
        icon=":material/image:",
        disabled=image is None or affine is None,
    ):
        with errors_shown():
            change = changes.ImageChange(
                slide_id=sid,
                image_id=image or "",
                affine_id=affine or "",
                pixel_um=pixel_um or None,
                replace=replace,
            )
            start(change, "The image is being attached.")


def _regions(meta: SlideMeta) -> None:
    st.markdown("**Regions**")
    file = st.file_uploader(
        "GeoJSON in µm, or the coordinates CSV of Xenium Explorer",
        type=["geojson", "json", "csv"],
        max_upload_size=_REGION_FILE_MB,
        key=f"attach-regions-{meta.slide_id}",
    )
    if st.button(
        "Import regions",
        key=f"attach-regions-go-{meta.slide_id}",
        icon=":material/polyline:",
        disabled=file is None,
    ):
        with errors_shown():
            text = file.getvalue().decode("utf-8", "replace") if file else ""
            found = services().import_rois(meta.slide_id, text, owner())
            st.success(
                f"{plural(len(found), 'region')} imported: {', '.join(r.name for r in found[:6])}"
                f"{' …' if len(found) > 6 else ''}. Look at them on the page Tissue.",
                icon=":material/check_circle:",
            )


def _drop_button(meta: SlideMeta, label: str, way_back: str, change: changes.DropChange) -> None:
    key = f"{meta.slide_id}-{'group' if change.groups else 'image'}-{label}"
    with st.popover("Remove", icon=":material/delete:", key=f"drop-{key}"):
        st.markdown(f"Remove **{label}** from {meta.name}? {way_back}")
        if st.button("Remove it", key=f"drop-go-{key}", type="primary"):
            with errors_shown():
                start(change, f"{label} is being removed.")


def _groupings(meta: SlideMeta) -> None:
    for key in meta.group_keys:
        name, first, table, drop = st.columns([4, 2, 2, 1.3], vertical_alignment="center")
        name.markdown(f"`{key}`")
        if key == meta.default_group:
            first.caption("shown first")
        elif first.button("Show first", key=f"first-{meta.slide_id}-{key}"):
            with errors_shown():
                change = changes.DefaultChange(slide_id=meta.slide_id, key=key)
                start(change, f"{key} will be shown first.")
        with table:
            explorer_button(meta, key)
        with drop:
            _drop_button(
                meta,
                key,
                "Its *CSV* brings it back under *Cell types from a table*: keep that first.",
                changes.DropChange(slide_id=meta.slide_id, groups=(key,)),
            )


def explorer_button(meta: SlideMeta, key: str) -> None:
    """Draw the download of a grouping as Xenium Explorer reads it."""
    downloads.file_button(
        "CSV",
        lambda: changes.explorer_csv(services().slide(meta.slide_id), key).encode("utf-8"),
        f"{meta.slide_id}-{key}-cell-groups.csv",
        "text/csv",
        f"explorer-{meta.slide_id}-{key}",
    )


def _images(meta: SlideMeta) -> None:
    for image in meta.images:
        name, facts, drop = st.columns([4, 4, 1.3], vertical_alignment="center")
        name.markdown(f"`{image.name}` · {'H&E' if image.kind == 'he' else 'stain'}")
        fit = image.alignment_rms_um
        doubt = "" if fit is None else f" · keypoints fit to {fit:.2f} µm"
        side = number(image.pixel_size_um, 4)
        facts.caption(f"{image.width:,} × {image.height:,} pixels of {side} µm{doubt}")
        with drop:
            _drop_button(
                meta,
                image.name,
                "The file that it was read from stays where it is.",
                changes.DropChange(slide_id=meta.slide_id, images=(image.name,)),
            )


def view(meta: SlideMeta) -> None:
    """Draw what a slide has, and what can be added to it."""
    last_report(meta)
    left, right = st.columns(2, gap="large")
    with left, st.container(border=True), errors_shown():
        _labels(meta)
    with right, st.container(border=True), errors_shown():
        _image(meta)
    with st.container(border=True), errors_shown():
        st.markdown(
            "**Groupings of the slide**",
            help="The CSV holds cell_id and group: Xenium Explorer reads it as a cell group.",
        )
        if meta.group_keys:
            _groupings(meta)
        else:
            st.caption("None yet: attach labels, or cluster the cells under *Cell types*.")
        st.markdown("**Images of the slide**")
        if meta.images:
            _images(meta)
        else:
            st.caption("None: the slide opens without a picture.")
    with st.container(border=True), errors_shown():
        _regions(meta)
