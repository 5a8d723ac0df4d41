"""The page of a visitor who has not signed in, and the menu of one who has."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from streamlit.auth_util import get_secrets_auth_section
from streamlit.errors import StreamlitAuthError
from streamlit.navigation.page import Page

from pages.ui import cards, identity


def _providers() -> list[str | None]:
    """Return the names of the identity providers, None for the one without a name."""
    section = get_secrets_auth_section()
    named = [str(key) for key, value in section.items() if isinstance(value, Mapping)]
    named = [name for name in named if name != "client_kwargs"]
    return [*([None] if "client_id" in section else []), *named]


def show() -> None:
    """Draw the sign-in page."""
    cards.heading("SpatialFormer", "Slides, regions and gene pairs of this laboratory.")
    with st.container(border=True, width=480):
        st.markdown("#### :material/lock: Sign in")
        st.markdown("Your jobs and your regions are kept under your account and shown to you only.")
        for name in _providers():
            label = f"Sign in with {name.title()}" if name else "Sign in"
            if st.button(label, type="primary", width="stretch", key=f"sign-in-{name}"):
                _start(name)


def _start(provider: str | None) -> None:
    try:
        st.login(provider)
    except StreamlitAuthError as error:
        st.error(
            f"The login of this server is not set up: {' '.join(str(error).split())}\n\n"
            "**What to do:** tell whoever runs it.",
            icon=":material/error:",
        )


def menu() -> dict[str, list[Page]]:
    """Return the part of the navigation that names the visitor; empty without a login."""
    if not identity.login_is_configured():
        return {}
    leave = st.Page(_sign_out, title="Sign out", icon=":material/logout:", url_path="sign-out")
    return {identity.shown_name(): [leave]}


def _sign_out() -> None:
    cards.heading("Sign out", "Your jobs run on, and their results are kept.")
    if st.button("Sign out", type="primary", icon=":material/logout:"):
        st.logout()
