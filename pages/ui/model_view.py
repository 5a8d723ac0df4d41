"""A checkpoint for people: where it comes from, what it is made of, what it knows of a slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, choices, downloads, model_choice
from pages.ui.session import errors_shown, link, linked, services
from pages.ui.text import count, duration, moment, number, plural

if TYPE_CHECKING:
    from spatialformer_core.service import CheckpointInfo, CoverageReport, SlideMeta

_ARCHITECTURES = {
    "two-tower": "each cell is read once, then pairs are compared; quick on whole slides",
    "cross-encoder": "both cells are read as one sequence, as in the paper; slow, exact",
}
_METRICS = {
    "validation_auroc_easy": "validation AUROC, random negatives",
    "validation_auroc_hard": "validation AUROC, 80–150 µm",
}
_HOW = {
    "exact": "by its name",
    "ensembl": "by its Ensembl id",
    "alias": "by a former symbol",
    "case": "but for letter case",
    "unknown": "not known: the model does not read it",
}


def choose(models: Sequence[CheckpointInfo]) -> CheckpointInfo:
    """Draw the choice of a checkpoint; the one of the link comes first."""
    by_id = {info.id: info for info in models}
    wanted = linked("model")
    if wanted and wanted not in by_id:
        st.warning("The model of this link is not here; it may have been removed.")
    chosen = choices.one_of(
        st,
        "Model (checkpoint)",
        {info.id: model_choice.label(info) for info in models},
        wanted,
        help="Those that ship first, then those of `checkpoints` in the home folder.",
    )
    link("model", chosen)
    return by_id[chosen]


def overview(models: Sequence[CheckpointInfo]) -> None:
    """Draw the table of all checkpoints with its downloads."""
    frame = pd.DataFrame(
        [
            {
                "id": info.id,
                "architecture": info.architecture,
                "size": info.preset,
                "parameters": info.provenance.get("parameters"),
                "genes": info.n_genes,
                "trained_on": ", ".join(info.trained_on),
                "simulated": info.simulated,
            }
            for info in models
        ]
    )
    whole = st.column_config.NumberColumn
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "parameters": whole(format="localized", help="Numbers that training has set."),
            "genes": whole(format="localized", help="Genes of its vocabulary."),
            "trained_on": "trained on",
            "simulated": st.column_config.CheckboxColumn(
                help="Trained on simulated tissue only: says nothing about measured tissue."
            ),
        },
    )
    downloads.table_buttons(frame, "models", "models")


def _history(provenance: dict[str, Any]) -> list[str]:
    """Return how a checkpoint came about, a sentence each; what is not recorded is left out."""
    said = []
    if pairs := provenance.get("pairs_seen"):
        steps, took = provenance.get("steps"), duration(provenance.get("seconds"))
        said.append(f"It saw {count(pairs)} cell pairs in {count(steps or 0)} steps ({took}).")
    for entry in provenance.get("trained_on") or ():
        if isinstance(entry, dict):
            donor = f", donor {entry['donor']}" if entry.get("donor") else ""
            cells = count(entry.get("cells") or 0)
            said.append(f"Slide `{entry.get('slide')}`{donor}: {cells} cells in training blocks.")
    if start := provenance.get("warm_start"):
        said.append(f"It began from the weights of `{start.get('name')}`.")
    if words := provenance.get("trained_on_words"):
        said.append(f"Trained on {words}; its slides are not listed one by one.")
    if source := provenance.get("source_file"):
        hashed = str(provenance.get("source_sha256", ""))[:12]
        said.append(f"Converted from `{source.get('name')}` (SHA-256 {hashed} …).")
    if layout := provenance.get("layout"):
        said.append(f"Attention layout {layout}: {provenance.get('layout_from')}.")
    when, version = provenance.get("created"), provenance.get("version")
    if when:
        said.append(f"Written {moment(str(when))} by version {version or 'unknown'}.")
    return said


def _figures(info: CheckpointInfo) -> None:
    told, metrics = info.provenance, info.provenance.get("metrics") or {}
    cards.figures(
        [
            ("parameters", count(told.get("parameters") or 0), "Numbers that training has set."),
            ("genes", count(info.n_genes), "Genes of its vocabulary; others are not read."),
            ("tokens", count(info.n_tokens), "Genes, sample words and special tokens."),
            *(
                (
                    name,
                    number(metrics[key]),
                    "0.5 is guessing, 1 is perfect; blocks not trained on.",
                )
                for key, name in _METRICS.items()
                if isinstance(metrics.get(key), float | int)
            ),
        ]
    )


def about(info: CheckpointInfo) -> None:
    """Draw one checkpoint: marks, figures, provenance in words, sizes, card."""
    labels = [(info.architecture, "blue", _ARCHITECTURES.get(info.architecture, ""))]
    if info.simulated:
        labels.append(cards.simulated_badge())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(info.name, anchor=False, width="content")
        cards.badges(labels)
    if info.simulated:
        cards.marks(["Trained on simulated tissue only: it says nothing about measured tissue."])
    _figures(info)
    left, right = st.columns([1.4, 1], gap="large")
    with left:
        st.markdown("**Where it comes from**")
        st.markdown("\n".join(f"- {line}" for line in _history(info.provenance)) or "Not recorded.")
    with right:
        st.markdown("**What it is made of**", help=_ARCHITECTURES.get(info.architecture))
        rows = [(name.replace("_", " "), str(value)) for name, value in info.config.items()]
        frame = pd.DataFrame(rows, columns=["setting", "value"])
        st.dataframe(frame, hide_index=True, height=220)
    with st.expander("Model card", icon=":material/description:"):
        st.markdown(info.card or "This checkpoint has no card.")
        if info.card:
            name = f"{info.id}-card.md"
            card = info.card.encode("utf-8")
            downloads.file_button("Card", card, name, "text/markdown", f"card-{info.id}")


@st.cache_data(show_spinner=False, max_entries=64, ttl=600)
def _report(slide_id: str, version: str, model: str, *, ignore_case: bool) -> CoverageReport:
    del version  # part of the key only: a slide that is read anew is another one
    return services().coverage_report(slide_id, model, ignore_case=ignore_case)


def coverage(info: CheckpointInfo, slides: Sequence[SlideMeta]) -> None:
    """Draw what a checkpoint knows of a slide's panel, gene by gene."""
    st.markdown("**What it knows of a slide's panel**")
    if not slides:
        st.info("Register a slide to see how much of its panel this model knows.")
        cards.register_link()
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    meta = choices.one_slide(left, slides, key="models-slide")
    folded = right.checkbox(
        "Letter case does not matter",
        key="models-case",
        help="Cd3e (mouse) then counts as CD3E (human), which assumes that they are orthologues.",
    )
    with errors_shown():
        report = _report(meta.slide_id, meta.version, info.id, ignore_case=folded)
        _covered(report, f"{meta.slide_id}-{info.id}")


def _covered(report: CoverageReport, stem: str) -> None:
    cards.figures(
        [
            ("panel known", f"{100 * report.fraction:.1f} %", "Of the slide's genes."),
            (
                "counts known",
                f"{100 * report.counts_fraction:.1f} %",
                "Share of the transcripts of analysed cells that belong to known genes.",
            ),
            ("not known", count(len(report.genes["unknown"])), "Genes that the model leaves out."),
        ]
    )
    rows = [(gene, how, _HOW[how]) for how, genes in report.genes.items() for gene in genes]
    frame = pd.DataFrame(rows, columns=["gene", "recognised", "in_words"])
    if report.merged:
        st.caption(f"{plural(len(report.merged), 'gene')} stand in several columns; summed.")
    only = st.checkbox("Only genes that are not known", key="models-unknown")
    shown = frame[frame["recognised"] == "unknown"] if only else frame
    st.dataframe(shown, hide_index=True, height=240, column_config={"in_words": "in words"})
    downloads.table_buttons(frame, f"coverage-{stem}", f"coverage-{stem}")


def official(here: Sequence[str]) -> None:
    """Draw the published checkpoints, and the command that fetches each."""
    found = services().official()
    with st.expander("Published models that can be fetched", icon=":material/cloud_download:"):
        frame = pd.DataFrame(
            [
                {
                    "name": name,
                    "trained_on": entry.slides,
                    "reads": "pairs of cells" if entry.input_type == "paired" else "single cells",
                    "here": name in here,
                    "command": f"spatialformer models pull {name}",
                }
                for name, entry in found.items()
            ]
        )
        words = {"trained_on": "trained on", "here": "here already"}
        st.dataframe(frame, hide_index=True, height="content", column_config=words)
        downloads.table_buttons(frame, "published-models", "published-models")
        st.markdown(
            "The app fetches nothing by itself. Run a command on the server, then reload this "
            "page; the file's hash is recorded, and nothing in it is executed."
        )
