"""The Alerts page, for admins: the alert rules and the webhook. Linked from Monitoring."""

from collections.abc import Callable
from contextlib import closing

import polars as pl
import streamlit as st

from barmill.audit.roles import Actor, Permission
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from barmill.platform.texts import escape_markdown
from control.monitoring.alerts import open_alert_db
from control.monitoring.delivery import last_deliveries, queue_test, set_webhook, webhook_host
from control.monitoring.rules import AlertKind, Rule, Rules, Severity, rules, set_rules
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.visitor import require, rerun_through_app
from views.plots import delivery_rows
from views.readings import now_ms

_OUTCOME = "alerts_outcome"
_URL = "alerts_url"
_COLUMN_WIDTHS = (4, 2, 3, 2)
_MAX_DELIVERIES = 20

_Change = Callable[[Home, Database, Actor], str]


def page() -> None:
    """Show the rules, the webhook, and its last deliveries."""
    actor, home = require(Permission.MANAGE_ALERTS).actor, Home.find()
    st.header("Alerts", anchor=False)
    st.page_link("pages/monitoring.py", label="Back to Monitoring", icon=":material/arrow_back:")
    show_message(_OUTCOME)
    db = open_alert_db(home)
    with closing(db.conn):
        current = rules(db)
    _rules_form(actor, current)
    _webhook_form(home, actor)
    if webhook_host(home) is not None:
        _deliveries(home)


def _rules_form(actor: Actor, current: Rules) -> None:
    st.subheader("Rules", anchor=False)
    st.caption("An alert clears when its condition has been normal for 15 seconds.")
    with st.form("alerts_rules"):
        for kind in AlertKind:
            _rule_row(kind, current[kind])
        st.form_submit_button(
            "Save rules", key="alerts_save", type="primary", on_click=_run_change, args=(_save_rules, actor)
        )


def _rule_row(kind: AlertKind, rule: Rule) -> None:
    enabled, threshold, unit, severity = st.columns(_COLUMN_WIDTHS, vertical_alignment="center")
    enabled.checkbox(kind.label, rule.enabled, key=_key(kind, "on"))
    threshold.number_input(
        f"{kind.label}: {kind.unit}",
        min_value=0.1,
        max_value=1e9,
        value=rule.threshold,
        step=1.0,
        format="%g",
        key=_key(kind, "threshold"),
        label_visibility="collapsed",
    )
    unit.caption(kind.unit)
    severity.selectbox(
        f"{kind.label}: severity",
        list(Severity),
        list(Severity).index(rule.severity),
        key=_key(kind, "severity"),
        label_visibility="collapsed",
    )


def _webhook_form(home: Home, actor: Actor) -> None:
    st.subheader("Webhook", anchor=False)
    host = webhook_host(home)
    if host is None:
        st.markdown("Alerts are shown only on the pages. A webhook, if set, receives each alert as JSON by HTTP POST.")
    else:
        st.markdown(f"Alerts are posted as JSON to **{escape_markdown(host)}**; the rest of the address may be secret.")
    with st.form("alerts_webhook", clear_on_submit=True):
        st.text_input("Webhook address", type="password", placeholder="https://…", autocomplete="off", key=_URL)
        st.form_submit_button("Save address", key="alerts_submit", on_click=_run_change, args=(_save_address, actor))
    if host is not None:
        with st.container(horizontal=True):
            st.button("Send test", key="alerts_test", on_click=_run_change, args=(_send_test, actor))
            st.button("Remove webhook", key="alerts_remove", on_click=_run_change, args=(_remove_webhook, actor))


@st.fragment(run_every=2)
def _deliveries(home: Home) -> None:
    rows = delivery_rows(last_deliveries(home, _MAX_DELIVERIES), now_ms())
    if rows:
        st.subheader("Recent deliveries", anchor=False)
        st.dataframe(pl.DataFrame(rows), hide_index=True, key="alerts_deliveries", placeholder="–")


def _run_change(change: _Change, actor: Actor) -> None:
    def action() -> str:
        home = Home.find()
        db = open_alert_db(home)
        with closing(db.conn):
            return change(home, db, actor)

    run_action(_OUTCOME, action)


def _save_rules(_home: Home, db: Database, actor: Actor) -> str:
    state, old_rules = st.session_state, rules(db)
    new_rules = {
        kind: Rule(
            enabled=state[_key(kind, "on")],
            threshold=state[_key(kind, "threshold")],
            severity=state[_key(kind, "severity")],
        )
        for kind in AlertKind
    }
    set_rules(db, actor, new_rules)
    changed = [kind.label for kind in AlertKind if new_rules[kind] != old_rules[kind]]
    return f"Changed: {', '.join(changed)}." if changed else "Nothing was changed."


def _save_address(home: Home, db: Database, actor: Actor) -> str:
    url, st.session_state[_URL] = st.session_state[_URL].strip(), ""  # it may contain a token
    set_webhook(home, db, actor, url)
    return f"Alerts are now posted to {webhook_host(home)}."


def _remove_webhook(home: Home, db: Database, actor: Actor) -> str:
    set_webhook(home, db, actor, None)
    return "The webhook is removed; alerts are no longer sent."


def _send_test(_home: Home, db: Database, actor: Actor) -> str:
    queue_test(db, actor, now_ms())
    return "The controller sends a test within a few seconds; the result appears below."


def _key(kind: AlertKind, part: str) -> str:
    return f"alerts_{kind}_{part}"


rerun_through_app()
page()
