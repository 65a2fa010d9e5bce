"""The Alerts page, for admins: when to raise an alert, and where alerts are sent. Reached from Monitoring."""

from collections.abc import Callable
from contextlib import closing

import polars as pl
import streamlit as st

from bar.sqlite import Database
from charts.texts import plain
from control.home import Home
from control.monitor.alerts import open_alert_db
from control.monitor.delivery import last_deliveries, put_up_test
from control.monitor.rules import Rule, Rules, Severity, Trouble, rules, set_rules
from control.monitor.webhook import set_webhook, webhook_host
from control.people.roles import Actor, Permission
from pages.parts.alert_tables import delivery_rows
from pages.parts.readings import now_ms
from pages.parts.routing import through_app
from pages.parts.told import attempt, tell
from pages.parts.visitor import require

_TOLD = "alerts_told"
_URL = "alerts_url"
_WIDTHS = (4, 2, 3, 2)
_DELIVERIES = 20

_Change = Callable[[Home, Database, Actor], str]


def page() -> None:
    """Show the rules and the webhook."""
    actor, home = require(Permission.MANAGE_ALERTS).actor, Home.find()
    st.header("Alerts", anchor=False)
    st.page_link("pages/monitoring.py", label="Back to Monitoring", icon=":material/arrow_back:")
    tell(_TOLD)
    db = open_alert_db(home)
    with closing(db.conn):
        now = rules(db)
    _rules_form(actor, now)
    _webhook_form(home, actor)
    if webhook_host(home) is not None:
        _deliveries(home)


def _rules_form(actor: Actor, now: Rules) -> None:
    st.subheader("When to raise one", anchor=False)
    st.caption("An alert is cleared by itself once all has been well for a quarter of a minute.")
    with st.form("alerts_rules"):
        for trouble in Trouble:
            _rule_row(trouble, now[trouble])
        st.form_submit_button("Save rules", key="alerts_save", type="primary", on_click=_act, args=(_save_rules, actor))


def _rule_row(trouble: Trouble, rule: Rule) -> None:
    on, threshold, unit, severity = st.columns(_WIDTHS, vertical_alignment="center")
    on.checkbox(trouble.words, rule.enabled, key=_key(trouble, "on"))
    threshold.number_input(
        f"{trouble.words}: {trouble.unit}",
        min_value=0.1,
        max_value=1e9,
        value=rule.threshold,
        step=1.0,
        format="%g",
        key=_key(trouble, "threshold"),
        label_visibility="collapsed",
    )
    unit.caption(trouble.unit)
    severity.selectbox(
        f"{trouble.words}: severity",
        list(Severity),
        list(Severity).index(rule.severity),
        key=_key(trouble, "severity"),
        label_visibility="collapsed",
    )


def _webhook_form(home: Home, actor: Actor) -> None:
    st.subheader("Where to send them", anchor=False)
    host = webhook_host(home)
    if host is None:
        st.markdown("Alerts are shown on the pages and sent nowhere else. A webhook gets each as JSON, by HTTP POST.")
    else:
        st.markdown(f"Alerts are posted as JSON to **{plain(host)}**; the rest of the address may be secret.")
    with st.form("alerts_webhook", clear_on_submit=True):
        st.text_input("Address of the webhook", type="password", placeholder="https://…", autocomplete="off", key=_URL)
        st.form_submit_button("Save address", key="alerts_submit", on_click=_act, args=(_save_address, actor))
    if host is not None:
        with st.container(horizontal=True):
            st.button("Send a test", key="alerts_test", on_click=_act, args=(_send_test, actor))
            st.button("Send alerts nowhere", key="alerts_nowhere", on_click=_act, args=(_send_nowhere, actor))


@st.fragment(run_every=2)
def _deliveries(home: Home) -> None:
    rows = delivery_rows(last_deliveries(home, _DELIVERIES), now_ms())
    if rows:
        st.subheader("Sent lately", anchor=False)
        st.dataframe(pl.DataFrame(rows), hide_index=True, key="alerts_deliveries", placeholder="–")


def _act(change: _Change, actor: Actor) -> None:
    def work() -> str:
        home = Home.find()
        db = open_alert_db(home)
        with closing(db.conn):
            return change(home, db, actor)

    attempt(_TOLD, work)


def _save_rules(_home: Home, db: Database, actor: Actor) -> str:
    state, before = st.session_state, rules(db)
    wanted = {
        trouble: Rule(
            enabled=state[_key(trouble, "on")],
            threshold=state[_key(trouble, "threshold")],
            severity=state[_key(trouble, "severity")],
        )
        for trouble in Trouble
    }
    set_rules(db, actor, wanted)
    changed = [trouble.words for trouble in Trouble if wanted[trouble] != before[trouble]]
    return f"Changed: {', '.join(changed)}." if changed else "Nothing was changed."


def _save_address(home: Home, db: Database, actor: Actor) -> str:
    url, st.session_state[_URL] = st.session_state[_URL].strip(), ""  # it may hold a token
    set_webhook(home, db, actor, url)
    return f"Alerts are posted to {webhook_host(home)} from now on."


def _send_nowhere(home: Home, db: Database, actor: Actor) -> str:
    set_webhook(home, db, actor, None)
    return "Alerts are sent nowhere from now on."


def _send_test(_home: Home, db: Database, actor: Actor) -> str:
    put_up_test(db, actor, now_ms())
    return "The controller sends a test within a few seconds; see below how it goes."


def _key(trouble: Trouble, what: str) -> str:
    return f"alerts_{trouble}_{what}"


through_app()
page()
