"""Is my gene on the panel? A box for one name or a list of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import downloads
from pages.ui.session import errors_shown, services
from pages.ui.text import count, plural

if TYPE_CHECKING:
    from spatialformer_core.service import GeneAnswer, SlideMeta

_HOW = {
    "exact": "by its name",
    "ensembl": "by its Ensembl id",
    "alias": "by a former symbol",
    "case": "but for letter case",
    "unknown": "not on the panel",
}


def _sentence(answer: GeneAnswer, n_kept: int) -> str:
    if answer.gene is None:
        like = f" Similar names: {', '.join(answer.similar)}." if answer.similar else ""
        return f"**{answer.asked}** is not on the panel.{like}"
    also = "" if answer.gene == answer.asked else f" as **{answer.gene}**"
    return (
        f"**{answer.asked}** is on the panel{also}: {plural(answer.transcripts, 'transcript')} in "
        f"{count(answer.cells)} of {count(n_kept)} cells that pass QC."
    )


def _table(answers: list[GeneAnswer]) -> pd.DataFrame:
    frame = pd.DataFrame([asdict(answer) for answer in answers])
    frame["recognised"] = frame["recognised"].map(_HOW)
    frame["gene"] = frame["gene"].fillna("")
    frame["similar"] = frame["similar"].map(", ".join)
    return frame


def view(meta: SlideMeta) -> None:
    """Draw the box and the answer for one slide."""
    st.markdown("**Is my gene on the panel?**")
    text = st.text_input(
        "Genes",
        key=f"panel-{meta.slide_id}",
        placeholder="CD3E, EPCAM, ENSG00000198851 …",
        help="Symbols or Ensembl ids, one or many; letter case does not matter.",
        max_chars=20_000,
    )
    if not text.strip():
        st.caption(f"The panel of {meta.name} has {plural(meta.n_genes, 'gene')}.")
        return
    with errors_shown():
        answers = services().find_genes(meta.slide_id, text)
        if not answers:
            st.caption("No name is left of that; write symbols or Ensembl ids.")
        elif len(answers) == 1:
            found = answers[0].gene is not None
            draw, icon = (st.success, "check_circle") if found else (st.warning, "block")
            draw(_sentence(answers[0], meta.n_cells_kept), icon=f":material/{icon}:")
        else:
            known = sum(answer.gene is not None for answer in answers)
            st.markdown(f"{count(known)} of {plural(len(answers), 'gene')} are on the panel.")
            frame = _table(answers)
            number = st.column_config.NumberColumn
            st.dataframe(
                frame,
                hide_index=True,
                height="content" if len(frame) < 8 else 300,
                column_config={
                    "transcripts": number(format="localized", help="Of cells that pass QC."),
                    "cells": number(format="localized", help="That pass QC and have the gene."),
                },
            )
            stem = f"{meta.slide_id}-panel"
            downloads.table_buttons(frame, stem, stem)
