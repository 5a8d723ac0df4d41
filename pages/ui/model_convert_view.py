"""A published file that lies on the server becomes a model here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import choices, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, owner, remember, services
from spatialformer_core.service import model_convert

if TYPE_CHECKING:
    from spatialformer_core.service import CheckpointInfo

_INPUTS = {None: "as the file says", "paired": "pairs of cells", "single": "single cells"}
_LAYOUTS = {None: "as the file says", "split": "split", "head-major": "head-major"}


def jobs() -> None:
    """Draw the conversions that wait or run, and why the last one has no result."""
    progress.active_jobs(model_convert.KIND, title)
    progress.last_failure(model_convert.KIND, title)


def _proposed(name: str, taken: Sequence[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(name).stem).strip("-_")[:56] or "model"
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    return stem if stem not in taken else next(n for n in numbered if n not in taken)


def form(models: Sequence[CheckpointInfo]) -> None:
    """Draw the form; a good submission queues the conversion."""
    with st.expander("Convert a published file", icon=":material/transform:"), errors_shown():
        found = {entry.id: entry.name for entry in model_convert.weight_files(services())}
        if not found:
            st.info(
                "No `.ckpt` or `.pt` lies in the allowed folders. Put one into a folder of "
                "`slide_roots` in `config.yaml` or into `sources` of the app's home, then reload; "
                "or run `spatialformer convert FILE.ckpt FOLDER` on the server.",
                icon=":material/folder_off:",
            )
            return
        left, right = st.columns([3, 2])
        chosen = choices.one_of(
            left,
            "File on the server",
            found,
            key="convert-file",
            help="A checkpoint of the published package; nothing in it is executed.",
        )
        name = right.text_input(
            "Name of the model",
            _proposed(found[chosen], [info.id for info in models]),
            key=f"convert-name-{chosen}",
            max_chars=64,
        )
        _more(chosen, name, found)


def _more(chosen: str, name: str, found: dict[str, str]) -> None:
    one, two, three, four = st.columns(4)
    input_type = choices.one_of(
        one,
        "Trained on",
        _INPUTS,
        key="convert-input",
        help="Older files do not tell whether they read pairs or single cells.",
    )
    layout = choices.one_of(
        two,
        "Attention layout",
        _LAYOUTS,
        key="convert-layout",
        help="How the weights of the heads lie in the file; the check below tells a wrong one.",
    )
    slides = {meta.slide_id: meta.name for meta in services().slides()}
    checked = three.selectbox(
        "Check on slide (optional)",
        list(slides),
        index=None,
        format_func=slides.__getitem__,
        placeholder="Not checked",
        key="convert-slide",
        help="Hides tokens of its cells under both layouts; a wrong layout is refused.",
    )
    others = [file for file in found if file != chosen]
    base = four.selectbox(
        "Base of LoRA factors (optional)",
        others,
        index=None,
        format_func=found.__getitem__,
        placeholder="None",
        key="convert-base",
        help="Only for a file that holds low-rank changes alone.",
    )
    if st.button("Convert", type="primary", icon=":material/transform:", key="convert-go"):
        request = model_convert.ConvertRequest.model_validate(
            {
                "file_id": chosen,
                "name": name.strip() or "model",
                "input_type": input_type,
                "layout": layout,
                "base_id": base,
                "check_slide": checked,
            }
        )
        model_convert.start_convert(services(), request, owner())
        remember("The file is being converted.")
        st.rerun()
