"""The finer settings of a screen: what is taken out, how it is tested, what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import choices
from pages.ui.session import errors_shown, remember, rerun, services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import ScreenRequest, screen_desk
from spatialformer_core.service.gene_lists import genes_of, sets_of

if TYPE_CHECKING:
    from spatialformer_core.service import CheckpointInfo
    from spatialformer_core.service.references import Kind

_UNITS = {
    "auto": "automatic: the largest with 6 or more",
    "donor": "donor",
    "slide": "slide",
    "roi": "region",
    "block": "tissue block (square of 200–1000 µm)",
}
_KNOCKOUTS = {"delete": "take the gene out of the cell", "mask": "hide the gene from the model"}
_MODES = {
    "auto": "automatic: by the time it takes",
    "exact": "exact: every gene pair",
    "screened": "screened: proposals, then exact",
}
_CONTROLS = {
    "subtract": "subtracted from each effect",
    "beside": "told beside the raw effects",
    "none": "none",
}
_COUNTS = {
    "cell": "all of the cell",
    "eroded": "inside the outline by 1.5 µm",
    "nucleus": "over the nucleus",
}
_TESTS = {
    "units": "near against far, over replicate units",
    "published": "as published (not about tissue)",
}
_EVERY, _SOME, _SETS = "Every gene", "Genes I name", "Gene sets"
_LIANA = "liana"


def _default(field: str) -> Any:
    return ScreenRequest.model_fields[field].default


def knocked_out() -> dict[str, Any]:
    """Draw the choice of genes; return ``genes`` and ``knockout_sets``.

    Raises
    ------
    SpatialFormerError
        If nothing, or something unreadable, is pasted.
    """
    how = st.segmented_control(
        "Knock out", (_EVERY, _SOME, _SETS), default=_EVERY, required=True, key="screen-genes-how"
    )
    if how == _SOME:
        text = st.text_area(
            "Genes",
            key="screen-genes",
            placeholder="CXCL10, IFNG, CD274 …",
            height=80,
            help="Symbols; commas, blanks or lines part them. All pairs of them are screened.",
        )
        genes = genes_of(text)
        if not genes:
            raise SpatialFormerError("No gene is named yet.", fix="Paste symbols, or take all.")
        return {"genes": genes}
    if how == _SETS:
        text = st.text_area(
            "Gene sets, one per line",
            key="screen-sets",
            placeholder="CHECKPOINTS: CD274, PDCD1LG2\nMATRIX: COL1A1, COL3A1, POSTN",
            height=100,
            help="NAME: A, B, C or lines of a GMT file. All genes of a set that a cell expresses "
            "are knocked out together; every two sets are screened.",
        )
        sets = sets_of(text)
        if not sets:
            raise SpatialFormerError("No gene set is given yet.", fix="Paste sets, or take all.")
        return {"knockout_sets": sets}
    return {}


def _distances() -> dict[str, Any]:
    near, far_from, far_to = st.columns(3)
    far_um = _default("far_um")
    radius = near.number_input(
        "Near: at most (µm)",
        min_value=5.0,
        max_value=95.0,
        value=float(_default("radius_um")),
        step=5.0,
        key="screen-radius",
        help="Two cells are near when their centres are at most this far apart.",
    )
    explanation = "Far pairs of the same types are what near pairs are compared with."
    nearest = far_from.number_input(
        "Far: from (µm)", 50.0, 1000.0, far_um[0], 10.0, key="screen-far-from", help=explanation
    )
    farthest = far_to.number_input(
        "Far: to (µm)", 60.0, 2000.0, far_um[1], 10.0, key="screen-far-to", help=explanation
    )
    return {"radius_um": radius, "far_um": (nearest, farthest)}


def _sizes() -> dict[str, Any]:
    per_unit, support, seed = st.columns(3)
    return {
        "max_pairs_per_unit": per_unit.number_input(
            "Near pairs per unit, at most",
            min_value=10,
            max_value=20_000,
            value=_default("max_pairs_per_unit"),
            step=50,
            key="screen-max-pairs",
            help="More pairs take more time; those beyond are left out at random.",
        ),
        "min_support": support.number_input(
            "Cell pairs per gene pair",
            min_value=1,
            value=_default("min_support"),
            key="screen-support",
            help="A gene pair is tested where at least so many cell pairs of a unit carry both.",
        ),
        "seed": seed.number_input(
            "Seed",
            min_value=0,
            value=_default("seed"),
            key="screen-seed",
            help="The same seed gives the same result to the last digit.",
        ),
    }


def _choice(column: Any, label: str, options: dict[str, str], field: str, explanation: str) -> str:
    key = f"screen-{field}"
    chosen: str = choices.one_of(column, label, options, _default(field), key=key, help=explanation)
    return chosen


def details() -> dict[str, Any]:
    """Draw distances, numbers, units, modes and controls; return them by field of a request."""
    with st.expander("Details", icon=":material/tune:"):
        values = _distances() | _sizes()
        left, right = st.columns(2)
        values["unit"] = _choice(
            left,
            "Replicate unit",
            _UNITS,
            "unit",
            "What counts as one observation. Never the cell: neighbours share everything.",
        )
        values["knockout"] = _choice(
            right,
            "Knock-out",
            _KNOCKOUTS,
            "knockout",
            "How a gene is removed from the cell that the model reads.",
        )
        values["mode"] = _choice(
            left,
            "Mode",
            _MODES,
            "mode",
            "Two-tower models are always exact. A cross-encoder on a CPU takes proposals where "
            "the exact screen would last longer than half an hour.",
        )
        values["test"] = _choice(
            right,
            "Test",
            _TESTS,
            "test",
            "The published test asks whether the model's output moves at all; it is here for "
            "comparison only.",
        )
        values["control"] = _choice(
            left,
            "Control knock-outs",
            _CONTROLS,
            "control",
            "The same knock-out of a random gene of neighbouring rank in the same cell.",
        )
        values["null_runs"] = right.number_input(
            "Null runs",
            0,
            100,
            _default("null_runs"),
            key="screen-null-runs",
            help="Screens with near and far exchanged at random within units: what they reject, "
            "the test rejects without a reason. Each costs as much as the screen.",
        )
        values["counts"] = _choice(
            left,
            "Transcripts read",
            _COUNTS,
            "counts",
            "The last two see less of what spilled over from neighbours: run them to see what "
            "holds.",
        )
        return values


def other_models(models: dict[str, CheckpointInfo], chosen: str) -> dict[str, Any]:
    """Draw the choice of further checkpoints; return ``agreement_ids`` and the null model."""
    others = [name for name in models if name != chosen]
    if not others:
        return {}
    left, right = st.columns(2)
    st.session_state["screen-agreement"] = [
        name for name in st.session_state.get("screen-agreement", []) if name in others
    ]
    agreement = left.multiselect(
        "Further models, for agreement",
        others,
        format_func=lambda name: models[name].name,
        key="screen-agreement",
        placeholder="None",
        help="They carry out the same screen. Three models in all are needed before anything is "
        "called agreement; each costs as much as the screen.",
    )
    null = right.selectbox(
        "Null model",
        others,
        index=None,
        format_func=lambda name: models[name].name,
        key="screen-null-model",
        placeholder="None",
        help="A model trained on shuffled labels: what it finds is no finding.",
    )
    return {"agreement_ids": tuple(agreement), "null_checkpoint_id": null}


def _upload(kind: Kind, label: str) -> None:
    with st.popover(f"Upload {label}", icon=":material/upload:"):
        # A key that changes empties the box once its file is kept.
        turn = st.session_state.setdefault(f"upload-{kind}", 0)
        file = st.file_uploader(
            "A file from your computer (16 MB at most)",
            key=f"upload-{kind}-{turn}",
            max_upload_size=16,
            help="It is read once and kept on the server for everyone who uses this app.",
        )
        if file is not None:
            with errors_shown():
                screen_desk.upload(services(), file.name, file.getvalue(), kind)
                st.session_state[f"upload-{kind}"] = turn + 1
                remember(f"{file.name} is on the server and can be chosen.")
                rerun()


def compared() -> dict[str, Any]:
    """Draw the choice of known pairs, gene sets and liana; return them by field of a request."""
    found = screen_desk.references(services())
    has_liana = screen_desk.has_liana()
    with st.expander("Compare the result with", icon=":material/compare_arrows:"):
        left, right = st.columns(2)
        tables = {r.id: r.name for r in found if r.kind == "ligand-receptor"}
        if has_liana:
            tables = {_LIANA: "liana's consensus"} | tables
        known = left.selectbox(
            "Known ligand–receptor pairs",
            list(tables),
            index=None,
            format_func=tables.__getitem__,
            key="screen-lr",
            placeholder="None",
            help="A CSV with ligand and receptor. Known pairs are marked and compared with pairs "
            "of like expression and rank.",
        )
        libraries = {r.id: r.name for r in found if r.kind == "gene-sets"}
        sets = right.multiselect(
            "Gene-set libraries",
            list(libraries),
            format_func=libraries.__getitem__,
            key="screen-gmt",
            placeholder="None",
            help="GMT files (GO, KEGG, Hallmark). Background are the genes that reached support.",
        )
        with left:
            _upload("ligand-receptor", "pairs (CSV)")
        with right:
            _upload("gene-sets", "sets (GMT)")
        liana = st.checkbox(
            "Rank beside liana's CellPhoneDB, CellChat and Moran scores",
            key="screen-liana",
            disabled=not has_liana,
            help="The same gene pairs in the same cells, scored by expression alone."
            if has_liana
            else "liana is not installed on this server (extra [baselines]).",
        )
    return {"ligand_receptor": known, "gene_set_files": _ids(sets), "liana": bool(liana)}


def _ids(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(values)
