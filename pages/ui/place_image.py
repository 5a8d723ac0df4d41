"""Placing the H&E anew: pairs of points from the viewer or a file, looked at, saved, undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui.session import errors_shown, owner, remember, rerun, services
from pages.ui.text import moment
from pages.ui.tissue_view import VIEWER
from pages.ui.viewer import keep_images, keep_points, set_points
from spatialformer_core.service import placing

if TYPE_CHECKING:
    from spatialformer_core.service import Slide, SlideMeta

_COLUMNS = {
    "x_px": st.column_config.NumberColumn("image x", format="%.0f", help="Pixel of the image."),
    "y_px": st.column_config.NumberColumn("image y", format="%.0f", help="Pixel of the image."),
    "x_um": st.column_config.NumberColumn("x µm", format="%.1f", help="Where it belongs."),
    "y_um": st.column_config.NumberColumn("y µm", format="%.1f", help="Where it belongs."),
}
_PAIR = list(_COLUMNS)


def panel(meta: SlideMeta) -> None:
    """Draw what places an image; nothing on a slide without one."""
    if not meta.images:
        return
    with st.expander("Place the image", icon=":material/control_point_duplicate:"):
        slide = services().slide(meta.slide_id)
        names = [image.name for image in meta.images]
        held = set_points(VIEWER, meta.slide_id)
        of_viewer = held[0] if held and held[0] in names else None
        he = next((image.name for image in meta.images if image.kind == "he"), names[0])
        image = of_viewer or he
        if len(names) > 1:
            first = names.index(image)
            image = st.selectbox("Image", names, index=first, key=f"place-{meta.slide_id}-{first}")
        st.caption(
            "Press **K** in the picture and click pairs: something in the image, then the same "
            "among the cells. Three pairs at least, well apart; more show the error."
        )
        _by_pairs(slide, image, held[1] if held and image == of_viewer else [])
        _by_file(slide, image)
        _undo(slide, image)


def _by_pairs(slide: Slide, image: str, pairs: list[placing.Pair]) -> None:
    slide_id = slide.meta.slide_id
    edited = st.data_editor(
        pd.DataFrame(pairs, columns=_PAIR, dtype=float),
        column_config=_COLUMNS,
        num_rows="dynamic",
        hide_index=True,
        key=f"pairs-{slide_id}-{image}-{hash(tuple(pairs))}",
    ).dropna()
    typed = [tuple(map(float, row)) for row in edited.itertuples(index=False, name=None)]
    if typed != [tuple(map(float, pair)) for pair in pairs]:
        keep_points(VIEWER, slide_id, image, typed)
        rerun()
    if len(pairs) < 3:
        st.caption(f"{len(pairs)} of at least 3 pairs are set.")
    else:
        with errors_shown():
            fit = placing.fit_pairs(slide, image, pairs)
            worst = max(range(len(pairs)), key=fit.errors_um.__getitem__)
            st.caption(
                f"They fit to **{fit.rms_um:.2f} µm** (root mean square); pair {worst + 1} is "
                f"furthest off, {fit.errors_um[worst]:.1f} µm."
                if fit.rms_um is not None
                else "Three pairs always fit; a fourth shows the error."
            )
            _save(slide, image, fit, "pairs")
    if pairs and st.button("Forget the pairs", icon=":material/delete:", key="forget-pairs"):
        keep_points(VIEWER, slide_id, image, [])
        rerun()


def _by_file(slide: Slide, image: str) -> None:
    file = st.file_uploader(
        "or a file of Xenium Explorer",
        type=["csv"],
        key=f"place-file-{slide.meta.slide_id}-{image}",
        help="A 3 x 3 matrix or keypoints (fixedX, fixedY, alignmentX, alignmentY), both in "
        "pixels: the fixed ones of the morphology image.",
    )
    if file is None:
        return
    has_stain = any(i.kind == "stain" and i.name != image for i in slide.meta.images)
    pixel_um = None
    if not has_stain:
        pixel_um = st.number_input(
            "Pixel of the morphology image (µm)",
            min_value=0.01,
            max_value=10.0,
            value=placing.XENIUM_PIXEL_UM,
            format="%.4f",
        )
    with errors_shown():
        text = file.getvalue().decode("utf-8-sig", "replace")
        _save(slide, image, placing.fit_file(slide, image, text, pixel_um), "file")


def _save(slide: Slide, image: str, fit: placing.Fit, key: str) -> None:
    for doubt in fit.doubts:
        st.warning(doubt)
    st.caption(f"The image would move by up to {fit.moved_um:,.0f} µm.")
    label = "Place the image so"
    if st.button(label, type="primary", icon=":material/save:", key=f"place-save-{key}"):
        placing.save(slide, image, fit, owner())
        _tell_viewer(slide, image)
        remember("The image lies anew. The way back is below *Place the image*.")
        rerun()


def _undo(slide: Slide, image: str) -> None:
    steps = placing.history(slide, image)
    if not steps:
        st.caption("It lies as it was read.")
        return
    last = steps[-1]
    rms = "" if last.rms_um is None else f", {last.rms_um:.2f} µm (RMS)"
    st.caption(f"Placed anew on {moment(last.made)}{rms}.")
    if st.button("Undo this placing", icon=":material/undo:", key=f"unplace-{image}"):
        with errors_shown():
            placing.undo(slide, image)
            _tell_viewer(slide, image)
            remember("The image lies as it did before.")
            rerun()


def _tell_viewer(slide: Slide, image: str) -> None:
    slide_id = slide.meta.slide_id
    keep_points(VIEWER, slide_id, image, [])
    keep_images(VIEWER, slide_id, [i.model_dump(mode="json") for i in placing.images(slide)])
