"""What a page knows about its visitor: the services, the owner, the slide of the link."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.ui import identity
from pages.ui.text import in_um
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import Services, open_services


@functools.lru_cache(maxsize=8)
def _services(_home: str) -> Services:
    # Not Streamlit's cache: each tile asks, and its keys take longer than the tile.
    return open_services()


def services() -> Services:
    """Return the services of the home folder; the one place where pages get them.

    Where a login is configured, a page of somebody who is not signed in ends here.
    """
    if get_script_run_ctx(suppress_warning=True) and not identity.may_see():
        st.stop()
    # The argument is the cache key only: another home (a test's) gets services of its own.
    return _services(os.environ.get("SPATIALFORMER_HOME", ""))


def owner() -> str:
    """Return under which name the visitor's jobs and regions are kept.

    Ask anew each time: one server has many visitors. Without a login the app listens on localhost
    only, so there is one person.
    """
    return identity.owner(services().config.default_owner)


def region_owner() -> str | None:
    """Return under whose name the visitor's regions are kept; None: everybody's."""
    return services().region_owner(owner())


def _seen_from_outside(where: str) -> str:
    """Return a place without the folders of the server around the home folder."""
    with contextlib.suppress(SpatialFormerError):
        return where.replace(f"{services().home}{os.sep}", "")
    return where


def show_error(error: SpatialFormerError) -> None:
    """Show what was found, where, and what to do about it."""
    where = f" `{_seen_from_outside(str(error.where))}`" if error.where else ""
    fix = f"\n\n**What to do:** {in_um(error.fix)}" if error.fix else ""
    st.error(f"{in_um(error.message)}{where}{fix}", icon=":material/error:")


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Turn an error that the user can mend into a message in place."""
    try:
        yield
    except SpatialFormerError as error:
        show_error(error)


def linked(name: str) -> str | None:
    """Return a value of the page's link (``?slide=...``), None where it is not given."""
    value = st.query_params.get(name)
    return value or None


def link(name: str, value: str | None) -> None:
    """Put a value into the page's link, so that a copied address opens the same view."""
    if value is None:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def current_slide() -> str | None:
    """Return the slide of the link, else the one that was looked at last on any page."""
    last: str | None = st.session_state.get("_slide")
    return linked("slide") or last


def look_at(slide_id: str) -> None:
    """Put a slide into the page's link and keep it for the pages that are opened next."""
    link("slide", slide_id)
    # The menu's links carry no slide: whoever drew on one slide wants to screen that slide.
    st.session_state["_slide"] = slide_id


def remember(message: str) -> None:
    """Keep a message for the next run of the page (a rerun would wipe it)."""
    st.session_state["_flash"] = message


def show_remembered() -> None:
    """Show the message kept by `remember`, once."""
    message = st.session_state.pop("_flash", None)
    if message:
        st.toast(message, icon=":material/check_circle:")


def rerun() -> None:
    """Draw again: the fragment alone when only it runs now, else the page."""
    context = get_script_run_ctx()
    st.rerun(scope="fragment" if context and context.fragment_ids_this_run else "app")
