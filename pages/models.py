"""Models: which checkpoints there are, where they come from, what they know of a slide."""

from __future__ import annotations

import streamlit as st

from pages.ui import cards, model_convert_view, model_view
from pages.ui.session import errors_shown, services


def main() -> None:
    """Draw the page."""
    cards.heading("Models", "Which models are here, what they were trained on, what they can read.")
    with errors_shown():
        model_convert_view.jobs()
        models = services().checkpoints()
        if models:
            model_view.overview(models)
            st.divider()
            info = model_view.choose(models)
            model_view.about(info)
            with errors_shown():
                model_view.coverage(info, services().slides())
        else:
            cards.empty(
                "No model yet",
                "Train one, or fetch a published one with a command below; it appears here after "
                "a reload.",
                "model_training",
            )
        model_view.official([info.id for info in models])
        model_convert_view.form(models)


main()
