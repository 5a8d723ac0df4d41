"""Files that come through the browser: a slide in one file, tables, a small H&E image."""

from __future__ import annotations

import streamlit as st

from pages.ui.session import errors_shown, remember, services
from pages.ui.text import plural, size
from spatialformer_core.service import uploads

_TURN = "upload-turn"


def _keep(file: uploads.Readable, name: str) -> None:
    kept = uploads.save_upload(services(), name, file)
    # Another key empties the box: what was kept shall not be sent again.
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1
    remember(f"{kept.name} was checked and kept; it can be chosen below.")
    st.rerun()


def _listed(there: list[uploads.Upload]) -> None:
    with st.container(height=180 if len(there) > 4 else "content", border=False):
        for upload in there:
            name, button = st.columns([6, 1], vertical_alignment="center")
            name.markdown(f"`{upload.name}` · {size(upload.n_bytes)}")
            if button.button(
                "Delete",
                key=f"upload-delete-{upload.name}",
                icon=":material/delete:",
                help="Slides that were read from it stay.",
                width="stretch",
            ):
                with errors_shown():
                    uploads.delete_upload(services(), upload.name)
                    st.rerun()


def view() -> None:
    """Draw the box and what was uploaded so far."""
    limits = services().config.limits
    there = uploads.list_uploads(services())
    kept = f" ({plural(len(there), 'upload')} kept)" if there else ""
    # The key keeps it open while its name, and what stands above it, changes.
    box = st.expander(f"Upload a small file{kept}", key="upload-box", icon=":material/upload:")
    with box, errors_shown():
        st.caption(
            "A slide as `.h5ad` or as a `.zip` of its folder; labels (`cell_id,group`), alignment "
            "or keypoints as `.csv`; a small H&E image as `.tif`. Larger slides are read from the "
            "server's folders. Whoever uses this app sees what is uploaded, and may delete it."
        )
        file = st.file_uploader(
            "File",
            type=list(uploads.SUFFIXES),
            max_upload_size=limits.max_upload_mb,
            key=f"upload-{st.session_state.get(_TURN, 0)}",
        )
        if st.button(
            "Check and keep", icon=":material/verified_user:", disabled=file is None, type="primary"
        ):
            with errors_shown():
                if file is not None:
                    _keep(file, file.name)
        _listed(there)
