"""The app's entry point: the pages, the permission that each needs, and the sidebar. Run by `./barmill up`."""

from collections.abc import Mapping, Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.platform.home import REPO_ROOT
from pages.parts.accounts.my_preferences import preferences_of, theme
from pages.parts.monitoring.readings import alert_line
from pages.parts.shared.page_header import flow_line
from pages.parts.shared.visitor import Visitor, current_visitor, rerun_through_app, visitor_badge
from web.streamlit_compat import DEFAULT_PAGE, STYLE

_ICON_FOLDER = REPO_ROOT / "pages" / "parts"
_START_PAGE_OPENED = "app_start_page_opened"

# The required permission, file, title and icon of each page, by section. The first page is the default start page.
_PAGES: Mapping[str, Sequence[tuple[Permission, str, str, str]]] = {
    "Markets": (
        (Permission.VIEW_PRICES, "overview", "Overview", "dashboard"),
        (Permission.VIEW_PRICES, "chart", "Chart", "candlestick_chart"),
        (Permission.VIEW_PRICES, "frames", "Frames", "view_column"),
        (Permission.VIEW_PRICES, "study", "Study", "query_stats"),
        (Permission.VIEW_PRICES, "compare", "Compare", "stacked_line_chart"),
    ),
    "Operations": (
        (Permission.VIEW_OPERATIONS, "jobs", "Jobs", "manufacturing"),
        (Permission.VIEW_OPERATIONS, "monitoring", "Monitoring", "monitoring"),
        (Permission.VIEW_OPERATIONS, "feeds", "Feeds", "sensors"),
        (Permission.VIEW_OPERATIONS, "quality", "Data quality", "fact_check"),
    ),
    "Administration": (
        (Permission.MANAGE_INSTRUMENTS, "instruments", "Instruments", "checklist"),
        (Permission.MANAGE_KEYS, "keys", "API keys", "key"),
        (Permission.MANAGE_ALERTS, "alerts", "Alerts", "notifications"),
        (Permission.MANAGE_ACCOUNTS, "accounts", "Accounts", "group"),
        (Permission.READ_AUDIT, "audit", "Audit", "history_edu"),
    ),
    "You": ((Permission.VIEW_PRICES, "account", "My account", "person"),),
}


def pages(visitor: Visitor) -> dict[str, list[st.Page]]:
    """Return the pages this visitor may open, by section."""
    return {
        section: [
            st.Page(f"pages/{name}.py", title=title, icon=f":material/{icon}:", default=name == DEFAULT_PAGE)
            for permission, name, title, icon in entries
            if visitor.may(permission)
        ]
        for section, entries in _PAGES.items()
        if any(visitor.may(permission) for permission, *_ in entries)
    }


def main() -> None:
    """Set up the app and run the requested page."""
    rerun_through_app()
    st.set_page_config("Barmill", str(_ICON_FOLDER / "icon.svg"), layout="wide", initial_sidebar_state=200)
    st.html(STYLE)
    st.logo(str(_ICON_FOLDER / "logo.svg"), size="large")
    visitor = current_visitor()
    sections = pages(visitor)
    page = st.navigation(sections, expanded=True)
    entries = [entry for section in sections.values() for entry in section]
    _open_start_page(page, preferences_of(visitor).start_page, entries)
    with st.sidebar:
        _show_state(visitor)
        visitor_badge(visitor, theme(visitor), [entry.url_path for entry in entries])
    page.run()


# Each run of a fragment, whatever it changes, costs the browser more than drawing a thousand candles. The pages
# themselves show more urgent information every second.
@st.fragment(run_every=3)
def _show_state(visitor: Visitor) -> None:
    """Show on every page whether data flows, and which alerts are open."""
    flow_line()
    alert_line(visitor)


def _open_start_page(page: st.Page, start_page: str, entries: Sequence[st.Page]) -> None:
    """Go to the visitor's start page if the app was opened without a page in the address."""
    if st.session_state.get(_START_PAGE_OPENED):
        return
    st.session_state[_START_PAGE_OPENED] = True
    start = next((entry for entry in entries if entry.url_path == start_page), None)
    if page.url_path == "" and start is not None:
        st.switch_page(start)


main()
