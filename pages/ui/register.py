"""The form that registers a slide: nothing is guessed, everything is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, identity
from pages.ui.session import look_at, owner, remember, services
from pages.ui.text import percent, plural
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import QcThresholds, SampleMetadata

if TYPE_CHECKING:
    from spatialformer_core.service import IngestExtras, SlideMeta

_READING = "_registering"
"""Names the slide whose reading this visitor started last."""

_FIELDS = {
    "donor": ("Donor", "Whom the tissue is from. Donors are the best replicate units.", ()),
    "block": ("Block", "Which tissue block or section; blocks are replicate units too.", ()),
    "condition": (
        "Condition",
        "Disease or treatment; the model reads it as a token.",
        ("Healthy",),
    ),
    "tissue": ("Tissue", "The organ; the model reads it as a token.", ("Lung", "Pancreas")),
    "species": ("Species", "The model reads it as a token.", ("Human", "Mouse")),
    "assay": (
        "Assay",
        "The instrument; the model reads it as a token.",
        ("Xenium", "CosMx", "MERSCOPE"),
    ),
}

_FILE_FIELDS = {
    "he_id": ("H&E image (optional)", "image", "A pyramidal OME-TIFF of the same section."),
    "he_affine_id": (
        "Alignment of the H&E (optional)",
        "table",
        "CSV: the 3x3 matrix or the keypoints that Xenium Explorer writes.",
    ),
    "labels_id": (
        "Cell types (optional)",
        "table",
        "CSV with the columns cell_id and group; Xenium Explorer writes such files too.",
    ),
}


def _known(field: str, slides: Sequence[SlideMeta]) -> list[str]:
    used = {str(getattr(meta.sample, field)) for meta in slides}
    return sorted(used | set(_FIELDS[field][2]))


def sample_fields(
    slides: Sequence[SlideMeta], prefix: str, now: SampleMetadata | None = None
) -> dict[str, str | None]:
    """Draw the six facts of a sample, empty or as they are now; return what is chosen.

    Parameters
    ----------
    slides
        Slides whose facts are offered.
    prefix
        Begins the widgets' keys.
    now
        What the sample is said to be so far.
    """
    values: dict[str, str | None] = {}
    columns = st.columns(3)
    for i, (field, (label, explanation, _)) in enumerate(_FIELDS.items()):
        known = _known(field, slides)
        values[field] = columns[i % 3].selectbox(
            label,
            known,
            index=None if now is None else known.index(str(getattr(now, field))),
            key=f"{prefix}-{field}",
            placeholder="Choose, or type your own",
            accept_new_options=True,
            help=explanation,
        )
    return values


def _file_fields() -> dict[str, str | None]:
    """Draw the choices of files that go with a slide; return their ids."""
    files = services().attachable()
    kinds = {kind: {f.id: f.name for f in files if f.kind == kind} for kind in ("image", "table")}
    chosen: dict[str, str | None] = {}
    fields = zip(st.columns(3), _FILE_FIELDS.items(), strict=True)
    for column, (field, (label, kind, explanation)) in fields:
        names = kinds[kind]
        chosen[field] = column.selectbox(
            label,
            list(names),
            index=None,
            format_func=names.__getitem__,
            key=f"register-{field}",
            placeholder="None" if names else f"No {kind} in the allowed folders",
            help=explanation,
        )
    return chosen


def _threshold_fields() -> QcThresholds:
    default = QcThresholds()
    qv, transcripts, genes = st.columns(3)
    return QcThresholds(
        min_qv=qv.number_input(
            "Lowest transcript quality (QV)",
            min_value=0.0,
            max_value=60.0,
            value=default.min_qv,
            step=1.0,
            format="%g",
            help="Phred scale: 20 means one wrong call in 100. Ignored where there is no QV.",
        ),
        min_transcripts=transcripts.number_input(
            "Fewest transcripts per cell",
            min_value=1,
            value=default.min_transcripts,
            help="Cells below stay visible and count for density, but the model leaves them out.",
        ),
        min_genes=genes.number_input(
            "Fewest genes per cell",
            min_value=1,
            value=default.min_genes,
            help="Different genes detected. Small cells (T cells) suffer first: look at QC after.",
        ),
    )


def filled_in(required: dict[str, str | None], sample: dict[str, str | None]) -> SampleMetadata:
    """Return the sample's facts.

    Raises
    ------
    SpatialFormerError
        If one of them, or one of the other values that are required, is empty.
    """
    asked = required | {_FIELDS[k][0]: v for k, v in sample.items()}
    missing = [label for label, value in asked.items() if not value or not value.strip()]
    if missing:
        raise SpatialFormerError(
            f"Not filled in: {', '.join(missing)}.",
            fix="Fill them in. Donor to assay decide the replicate units and what the model is "
            "told, so none is guessed.",
        )
    return SampleMetadata(**{k: v.strip() for k, v in sample.items() if v})


def _submit(
    source: str | None,
    name: str,
    sample: dict[str, str | None],
    qc: QcThresholds,
    extras: IngestExtras,
) -> None:
    metadata = filled_in({"Folder": source, "Name": name.strip()}, sample)
    if source is None:
        return
    services().register(source, name.strip(), metadata, qc, owner(), **extras)
    st.session_state[_READING] = name.strip()
    remember(f"{name.strip()} is being read.")
    st.rerun()


def show_when_read(slides: Sequence[SlideMeta]) -> None:
    """Open the slide that this visitor registered last, once it is there."""
    name = st.session_state.get(_READING)
    for meta in slides:
        if meta.name == name:
            del st.session_state[_READING]
            kept = percent(meta.n_cells_kept, meta.n_cells)
            st.toast(
                f"{name} is registered: {kept} of {plural(meta.n_cells, 'cell')} pass QC.",
                icon=":material/check_circle:",
            )
            look_at(meta.slide_id)


def form(slides: Sequence[SlideMeta]) -> None:
    """Draw the form; a good submission queues the ingest job."""
    sources = services().sources()
    if not sources:
        cards.empty(
            "No folder with slides is open to the app",
            "List the folders that hold your slides under `slide_roots:` in `config.yaml` of the "
            "app's home folder, then reload this page; or upload a small slide above.",
            "folder_off",
        )
        return
    if identity.login_is_configured():
        st.caption(
            "Whoever signs in here sees every slide and may change it; jobs and the regions that "
            "are drawn stay with who made them."
        )
    labels = {source.id: f"{source.name}  ·  {source.kind}" for source in sources}
    with st.form("register", border=False):
        left, right = st.columns([3, 2])
        source = left.selectbox(
            "Folder on the server",
            list(labels),
            index=None,
            format_func=labels.__getitem__,
            key="register-source",
            placeholder="Choose a slide",
            help="Only folders below the roots that the server's owner has listed are shown.",
        )
        name = right.text_input(
            "Name", key="register-name", max_chars=64, help="How the slide is called in the app."
        )
        sample = sample_fields(slides, "register")
        files = _file_fields()
        um_per_px = st.number_input(
            "Micrometres per pixel",
            min_value=0.0,
            value=None,
            format="%g",
            key="register-um-per-px",
            placeholder="Only where the source keeps pixels and does not say how large they are",
            help="CosMx: 0.12028 on current instruments, 0.18 on early ones. Leave it empty for "
            "Xenium, MERSCOPE and table folders, which are in micrometres.",
        )
        st.markdown("**Quality thresholds**")
        qc = _threshold_fields()
        if st.form_submit_button("Register slide", type="primary", icon=":material/add:"):
            extras: IngestExtras = {
                "um_per_px": um_per_px,
                "he_id": files["he_id"],
                "he_affine_id": files["he_affine_id"],
                "labels_id": files["labels_id"],
            }
            _submit(source, name, sample, qc, extras)
