"""Every page is reached through app.py, so that what app.py decides (which pages there are, for whom) holds."""

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


def through_app() -> None:
    """Run app.py on its own terms if Streamlit went around it; the first thing app.py and every page do.

    Until `st.navigation` is called for the first time in a server's life, Streamlit takes any file in `pages/` for a
    page of its own and runs it without app.py, for whoever opens its address.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
