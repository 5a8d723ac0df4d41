"""Whether the visitor's browser can draw with WebGL; where it cannot, pictures do without."""

from __future__ import annotations

import functools
from typing import Any

import streamlit as st

_MISSING = "_without-webgl"
# One context, given back at once: a browser has few.
_PROBE = """
export default function ({ setTriggerValue }) {
  const context = document.createElement('canvas').getContext('webgl2');
  if (!context) setTriggerValue('missing', true);
  context?.getExtension('WEBGL_lose_context')?.loseContext();
}
"""


def missing() -> bool:
    """Tell whether the visitor's browser is known to offer no WebGL."""
    return bool(st.session_state.get(_MISSING))


def note_missing() -> None:
    """Keep for this visit that the browser offers none."""
    st.session_state[_MISSING] = True


@functools.cache
def _component() -> Any:
    return st.components.v2.component("spatialformer_webgl", js=_PROBE)


def ask_browser() -> None:
    """Let the browser tell if it offers none; it then runs the page again, and no more is asked.

    The tissue viewer tells so by itself; this is for pages without it, and belongs at their end.
    """
    if not missing():
        _component()(key="webgl-probe", on_missing_change=note_missing)
