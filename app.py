"""The app's entry: which pages there are and for whom, and what stands beside all of them. Run by `./barmill up`."""

from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from control.home import REPO_ROOT
from control.people.roles import Permission
from pages.parts.alert_list import alert_line
from pages.parts.head import flow_line
from pages.parts.my_preferences import mine, theme
from pages.parts.routing import through_app
from pages.parts.visitor import Visitor, visitor, visitor_badge

_PICTURES = REPO_ROOT / "pages" / "parts"
# Streamlit has no settings for these: tables and charts want the width more than the margins do; whoever comes by
# keyboard to a table, to a link or to the page itself should see so; and nobody needs to come to the timer of a page.
_STYLE = """<style>
.stMainBlockContainer { padding-inline: 2rem; }
.stMain:focus-visible { outline: 2px solid; outline-offset: -2px; }
.stDataFrame:has(:focus-visible), .stPageLink a:focus-visible { outline: 2px solid; outline-offset: 1px; }
iframe[title^="streamlit_autorefresh"] { visibility: hidden; }
</style>"""
_LANDED = "app_landed"

# By section: which permission a page needs, its file, title and icon. The first page of all is where one lands.
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


def pages(one: Visitor) -> dict[str, list[StreamlitPage]]:
    """Return the pages this visitor may open, by section."""
    return {
        section: [
            st.Page(f"pages/{name}.py", title=title, icon=f":material/{icon}:", default=name == "overview")
            for needed, name, title, icon in listed
            if one.may(needed)
        ]
        for section, listed in _PAGES.items()
        if any(one.may(needed) for needed, *_ in listed)
    }


def main() -> None:
    """Set the frame of the app and run the page that was asked for."""
    through_app()
    st.set_page_config("Barmill", str(_PICTURES / "icon.svg"), layout="wide", initial_sidebar_state=200)
    st.html(_STYLE)
    st.logo(str(_PICTURES / "logo.svg"), size="large")
    one = visitor()
    offered = pages(one)
    page = st.navigation(offered, expanded=True)
    listed = [each for section in offered.values() for each in section]
    _land(page, mine(one).start_page, listed)
    with st.sidebar:
        _keep_telling(one)
        visitor_badge(one, theme(one), [each.url_path for each in listed])
    page.run()


# Each run of a fragment, whatever it changes, costs the browser as much as drawing a thousand candles does. What is to
# be told sooner, the pages themselves tell every second.
@st.fragment(run_every=3)
def _keep_telling(one: Visitor) -> None:
    """Say beside every page whether data flows, and which alerts are open."""
    flow_line()
    alert_line(one)


def _land(page: StreamlitPage, start_page: str, listed: Sequence[StreamlitPage]) -> None:
    """Go to the page that the visitor wants to see first, if the app was just opened without saying which."""
    if st.session_state.get(_LANDED):
        return
    st.session_state[_LANDED] = True
    wanted = next((one for one in listed if one.url_path == start_page), None)
    if page.url_path == "" and wanted is not None:
        st.switch_page(wanted)


main()
