"""Cards, badges and empty states."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st


def heading(title: str, caption: str) -> None:
    """Draw a page's title with one line that says what the page is for."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.title(title, anchor=False, width="content")
        st.caption(caption, width="content")


def figures(values: Sequence[tuple[str, str, str]]) -> None:
    """Draw key numbers in a row: ``(label with unit, value, one-line explanation)``."""
    with st.container(horizontal=True, gap="medium"):
        for label, value, explanation in values:
            st.metric(label, value, help=explanation, width="content")


def empty(title: str, text: str, icon: str) -> None:
    """Say why there is nothing here and what to do next."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(f"#### :material/{icon}: {title}")
        st.markdown(text)


def no_slide(title: str, text: str, icon: str) -> None:
    """Say that a slide is needed first, with the way to the page that registers one."""
    empty(title, text, icon)
    register_link()


def register_link() -> None:
    """Draw the way to the page that registers a slide."""
    st.page_link("pages/slides.py", label="Register a slide", icon=":material/add_circle:")


def badges(values: Sequence[tuple[str, str, str]]) -> None:
    """Draw small labels in a row: ``(text, colour, explanation)``."""
    with st.container(horizontal=True, gap="xsmall", width="content"):
        for text, colour, explanation in values:
            st.badge(text, color=colour, help=explanation or None)  # type: ignore[arg-type]  # a fixed palette


def simulated_badge() -> tuple[str, str, str]:
    """Return the label that marks what does not come from tissue."""
    return ("simulated", "orange", "Made by `spatialformer simulate`, not measured in tissue.")


def marks(sentences: Sequence[str]) -> None:
    """Draw what every output of a screen is marked with, in one box."""
    if sentences:
        st.warning("\n\n".join(str(sentence) for sentence in sentences), icon=":material/warning:")
