"""What stands beside a screen: example cells, known pairs, gene sets, models, nulls, liana."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, charts, downloads, screen_cells, screen_charts
from pages.ui.result_page import SCREENS
from pages.ui.session import owner, services
from pages.ui.text import count, number
from spatialformer_core.service import screen_desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from spatialformer_core.service import ScreenView

_PARTS = (
    "Example cells",
    "Known pairs",
    "Gene sets",
    "Models",
    "Nulls",
    "liana",
    "Direction",
    "Methods",
)
_SMALL = st.column_config.NumberColumn
_METHODS = ("interaction", "effect", "cellphonedb", "cellchat", "moran")


def _frame(rows: pd.DataFrame, key: str, config: dict[str, Any] | None = None) -> None:
    """Draw a table with its downloads."""
    height = min(38 * (len(rows) + 1), 380)
    st.dataframe(rows, hide_index=True, column_config=config, height=height)
    downloads.table_buttons(rows, f"screen-{key}", f"more-{key}")


def _not_asked(text: str) -> None:
    st.info(text, icon=":material/info:")


def _against_like(tests: list[dict[str, Any]]) -> None:
    """Draw how far known pairs stand above pairs of like expression and rank."""
    frame = pd.DataFrame(
        [
            {
                "ranked by": test["name"],
                "mean place (0–1)": test["mean_rank"],
                "above what expression predicts": test["adjusted"],
                "random pairs": test["random"],
                "± sd": test["random_sd"],
                "p": test["p"],
                "smallest p": test["smallest_p"],
            }
            for test in tests
        ]
    )
    config = {
        "mean place (0–1)": _SMALL(format="%.2f", help="1 is the strongest gene pair."),
        "above what expression predicts": _SMALL(
            format="%.3f", help="Mean place less what expression and rank of both genes predict."
        ),
        "random pairs": _SMALL(
            format="%.3f", help="The same of random sets, genes exchanged for like ones."
        ),
        "± sd": _SMALL(format="%.3f", help="Spread of the random sets."),
        "p": _SMALL(format="%.3g", help="One-sided. Empty where the screen has no p-values."),
        "smallest p": _SMALL(format="%.2g", help="The least p that so many random sets can give."),
    }
    st.dataframe(frame, hide_index=True, column_config=config)


def _known(result: ScreenView, key: str) -> None:
    found = result.info.get("ligand_receptor")
    if found is None:
        _not_asked("No table of known ligand–receptor pairs was chosen for this screen.")
        return
    hits = found["significant"]
    cards.figures(
        [
            ("interactions known", count(found["interactions"]), f"In {found['resource']}."),
            (
                "testable here",
                count(found["testable"]),
                f"Rows of the table (of {count(found['tested_pairs'])}) that are a known pair, "
                "either gene being the ligand.",
            ),
            (
                "of them q < 0.05",
                "–" if hits is None else f"{hits['q']} / {hits['epsilon_q']}",
                "By effect / by interaction.",
            ),
        ]
    )
    if found["note"]:
        st.caption(found["note"])
    if not found["testable"]:
        st.caption("No known pair reached support on this panel, so there is nothing to compare.")
        return
    st.markdown("**Against random pairs of like expression and rank**")
    _against_like([{"name": name, **test} for name, test in found["tests"].items()])
    rows = result.table[result.table["is_ligand_receptor"].eq(other=True).fillna(value=False)]
    columns = ["gene_left", "gene_right", "ligand", "n_pairs", "d_diff", "epsilon", "q"]
    columns += ["epsilon_q", "spillover", "scope"]
    _frame(rows[columns].reset_index(drop=True), f"known-{key}")


def _sets(result: ScreenView, key: str) -> None:
    found = result.info.get("enrichment")
    if found is None or result.enriched is None:
        _not_asked("No gene-set library was chosen for this screen.")
        return
    cards.figures(
        [
            ("sets tested", count(found["tested"]), "3 to 500 of their genes reached support."),
            ("q < 0.05", count(found["significant"]), "Corrected over each library and side."),
            ("genes chosen", count(found["chosen_genes"]), "Genes of significant pairs."),
            ("background", count(found["background_genes"]), "Genes that reached support."),
            (
                "smallest p",
                number(found["smallest_p"]),
                "The least p that any set can reach here, whatever the effects.",
            ),
        ]
    )
    if found["not_computed"]:
        st.info(f"Not tested: {found['not_computed']}.", icon=":material/info:")
    if found["pointer"]:
        st.caption(found["pointer"])
    if len(result.enriched):
        numbers = {name: _SMALL(format="%.2g") for name in ("p", "q", "smallest_p")}
        numbers |= {name: _SMALL(format="%.2f") for name in ("fold", "expected")}
        _frame(result.enriched, f"sets-{key}", numbers)


def _models(result: ScreenView, key: str) -> None:
    found = result.info.get("agreement")
    if found is None or result.agreement is None:
        _not_asked("One model carried out this screen; choose further ones for agreement.")
        return
    st.markdown(found["sentence"])
    gates = zip(found["checkpoints"], found["gates_open"], strict=True)
    table = pd.DataFrame(
        [{"model": name, "tells near from far here": is_open} for name, is_open in gates]
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.dataframe(table, hide_index=True)
    with right:
        rows = [
            {
                "of": what,
                "least rank correlation": found[what]["least"],
                "gene pairs of all": found[what]["gene_pairs_of_all"],
                "same sign in all": found[what]["same_sign_in_all"],
            }
            for what in ("effect", "interaction")
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.markdown("**Every gene pair by every model**")
    _frame(result.agreement, f"models-{key}")


def _nulls(result: ScreenView, _key: str) -> None:
    runs, model = result.info.get("null_screens"), result.info.get("null_checkpoint")
    if runs is None and model is None:
        _not_asked("No null run and no null model was asked for (Details of the form).")
        return
    if runs is not None:
        st.markdown(
            f"**{runs['runs']} screens with near and far exchanged at random within units.** At "
            f"α = {runs['alpha']:g} a test that holds rejects {100 * runs['alpha']:g} %."
        )
        rows = [
            {
                "of": what,
                "rejected (%)": None
                if runs[what]["rejected"] is None
                else 100 * runs[what]["rejected"],
                "runs with any q < 0.05": runs[what]["runs_with_any_q"],
            }
            for what in ("effect", "interaction")
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    if model is not None:
        gate, hits = model["gate"], model["significant"]
        said = "no p-values" if hits is None else f"{hits['q']} effects with q < 0.05"
        st.markdown(
            f"**Null model {model['checkpoint']['name']}**: {gate['reason']} It gives {said}."
        )


def _liana(result: ScreenView, key: str) -> None:
    found = result.info.get("liana")
    if found is None or result.liana is None:
        reason = result.info["not_computed"].get("liana")
        _not_asked(f"Not computed: {reason}." if reason else "liana was not asked for.")
        return
    st.markdown(found["sentence"])
    share = found["cellchat_zero"] / max(found["gene_pairs"], 1)
    st.caption(
        f"CellChat gives 0 to {share:.0%} of the pairs: its trimmed mean is 0 where fewer than a "
        "quarter of the cells express a gene, as on most panels."
    )
    left, right = st.columns([1, 1.2], gap="large")
    with left:
        other = st.segmented_control(
            "Beside",
            _METHODS[2:],
            default=_METHODS[2],
            required=True,
            key=f"liana-other-{key}",
        )
        figure = screen_charts.rank_scatter(result.liana, "interaction", other or _METHODS[2])
        charts.draw(figure, f"screen-liana-{key}", f"liana-{key}", "Ranks of both methods")
    with right:
        rho = pd.DataFrame(found["rank_correlation"])
        wide = rho.pivot_table(index="one", columns="other", values="rho", sort=False)
        st.markdown("**Rank correlation (ρ)**")
        st.dataframe(wide.round(2), height=38 * (len(wide) + 1))
        if found["known"]:
            st.markdown(f"**{count(found['known_pairs'])} known pairs against like pairs**")
            _against_like([{"name": test["method"], **test} for test in found["known"]])
    _frame(result.liana, f"liana-{key}")


def _direction(result: ScreenView, _key: str) -> None:
    info, found = result.info, result.info["direction"]
    cards.figures(
        [
            (
                "less contact without",
                count(found["less_contact_without"]),
                "Gene pairs without which the model expects less contact.",
            ),
            (
                "more contact without",
                count(found["more_contact_without"]),
                "Gene pairs without which it expects more.",
            ),
            ("joint", count(found["joint"]), "Interaction > 0 and effect < 0: both are needed."),
            ("redundant", count(found["redundant"]), "Interaction < 0: either one suffices."),
        ]
    )
    st.caption("Counts of signs over all gene pairs tested, whatever their p-values.")
    against = pd.DataFrame(info["effect_against_rank"]).T.rename(
        columns={"left": "gene in first cell", "right": "gene in second cell"}
    )
    st.markdown("**Rank correlation of the size with the gene's rank in its cell (ρ)**")
    st.dataframe(against, column_config={name: _SMALL(format="%.2f") for name in against})
    test = info.get("published_test")
    if test is not None:
        st.warning(
            f"**Published test.** {count(test['kept_by_published_filter'])} of "
            f"{count(test['tested'])} pairs pass its filter ({test['filter']}); "
            f"{count(test['significant_over_all_tests'])} have q < 0.05 over all tests. It asks "
            "about the model's output, not about tissue.",
            icon=":material/warning:",
        )


def _methods(result: ScreenView, key: str) -> None:
    st.markdown(str(result.info["methods"]))
    text = str(result.info["methods"]).encode("utf-8")
    name = f"screen-methods-{key}.txt"
    downloads.file_button("Methods (text)", text, name, "text/plain", f"methods-{key}")
    if st.button(
        "Run again with these settings",
        key=f"again-{key}",
        icon=":material/replay:",
        help="The same request once more. Provenance (above) holds it as well; on the command "
        "line: spatialformer rerun FILE --out FOLDER.",
    ):
        SCREENS.started(lambda: screen_desk.again(services(), key, owner()), "is started again")
    meanings = pd.DataFrame(list(result.info["columns"].items()), columns=["column", "meaning"])
    with st.expander("What each column means", icon=":material/help:"):
        _frame(meanings, "columns")


_DRAW: dict[str, Callable[[ScreenView, str], None]] = {
    "Known pairs": _known,
    "Gene sets": _sets,
    "Models": _models,
    "Nulls": _nulls,
    "liana": _liana,
    "Direction": _direction,
    "Methods": _methods,
}


def view(result: ScreenView, kept: pd.DataFrame, chosen: tuple[str, str] | None, key: str) -> None:
    """Draw the choice of parts and the chosen one.

    Parameters
    ----------
    result
        A finished screen.
    kept
        Rows that pass the filters, in the order of the table.
    chosen
        The gene pair that is chosen in the table.
    key
        Id of the job.
    """
    st.divider()
    part = st.segmented_control(
        "More of this screen", _PARTS, default=_PARTS[0], required=True, key=f"part-{key}"
    )
    if part in _DRAW:
        _DRAW[part](result, key)
    else:
        screen_cells.view(kept, chosen, result.info, key)
