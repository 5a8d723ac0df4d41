"""The app: one file is both the ASGI entry and the script that Streamlit runs for each visitor.

`streamlit run app.py` and `uvicorn app:app` both serve it.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

if get_script_run_ctx(suppress_warning=True) is None:
    from starlette.middleware import Middleware
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.starlette import App

    from pages.ui.access import LocalOnly
    from pages.ui.routes import ROUTES
    from pages.ui.server import lifespan

    # Else the first deep link on a fresh server runs pages/*.py bare, past this file.
    PagesManager.uses_pages_directory = False
    guard = [Middleware(LocalOnly)]
    app = App(str(Path(__file__).resolve()), routes=ROUTES, lifespan=lifespan, middleware=guard)
else:
    from pages.ui import identity, sign_in
    from pages.ui.session import show_remembered

    # A file of ours: browsers would fetch a Material icon or an emoji from somebody else's server.
    icon = str(Path(__file__).parent / "pages" / "ui" / "icon.png")
    st.set_page_config(page_title="SpatialFormer", page_icon=icon, layout="wide")
    # Streamlit has no setting for the side margins; a tissue wants the width of the screen.
    st.html(
        "<style>[data-testid=stMainBlockContainer]{padding-left:2.5rem;padding-right:2.5rem}</style>"
    )
    show_remembered()
    if not identity.may_see():
        # No page at all: an address that was typed in must not run one past this line either.
        sign_in.show()
        st.stop()
    all_pages = [
        st.Page("pages/slides.py", title="Slides", icon=":material/stacks:", default=True),
        st.Page("pages/tissue.py", title="Tissue", icon=":material/blur_on:"),
        st.Page("pages/gene_pairs.py", title="Gene pairs", icon=":material/join_inner:"),
        st.Page("pages/neighbours.py", title="Neighbours", icon=":material/hub:"),
        st.Page("pages/embedding.py", title="Embedding", icon=":material/bubble_chart:"),
        st.Page("pages/perturbation.py", title="Perturbation", icon=":material/science:"),
        st.Page("pages/models.py", title="Models", icon=":material/model_training:"),
        st.Page("pages/jobs.py", title="Jobs", icon=":material/pending_actions:"),
    ]
    st.navigation({"": all_pages, **sign_in.menu()}, position="top").run()
