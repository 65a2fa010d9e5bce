"""The dialogs of the feeds page, the trial of settings, and the action that enables or disables a feed."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl
import streamlit as st

from barmill.audit.roles import Actor, Permission
from barmill.ingest.feeds.changes import READY_MADE, add, delete, edit, enable
from barmill.ingest.feeds.feed import KINDS, Feed, FeedError, Feeds
from barmill.ingest.feeds.settings import Settings, settings_of
from barmill.ingest.feeds.trial import Trial
from barmill.ingest.feeds.trial_runner import TrialSettings, run_trial
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown, number_text
from barmill.secrets.store import KeyStore
from pages.parts.feeds.catalogue import read_feed_views
from pages.parts.shared.dialogs import Dialogs
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.visitor import require

ADD, EDIT, DELETE = "add", "edit", "delete"
_CUSTOM_CHOICE = "custom"
_DEFAULT_CHOICE = "kraken"  # it needs no key
_NAME_WIDGET = "feeds_name"
SWITCH_OUTCOME = "feeds_switched"
_SETTINGS_HEIGHT_PX = 220
_RESULT, _OUTCOME = "feed_trial_result", "feed_trial_outcome"
_NUMBER_COLUMNS = {"price_open": "Open", "price_close": "Close", "volume": "Volume"}
_MAX_ROWS_SHOWN = 100

Change = Callable[[Feeds, Actor], str]
# Returns the settings and the key name to try, as they are at the time of the trial.
TrialInputs = Callable[[], tuple[object, str | None]]


class _OpenDialog(NamedTuple):
    kind: str
    feed: Feed | None


class _Fields(NamedTuple):
    """The current content of a dialog's fields.

    Callbacks must read it when they run: a user who clicks right after typing clicks in a run that has not seen the
    last input.
    """

    kind: str
    settings_widget: str
    key_widget: str

    @property
    def settings(self) -> str:
        return str(st.session_state[self.settings_widget])

    @property
    def key(self) -> str | None:
        selected = st.session_state[self.key_widget]
        return None if selected is None else str(selected)

    def parsed(self) -> Settings:
        """Return the settings; raise FeedError if they are invalid."""
        return settings_of(self.kind, self.settings)


dialogs = Dialogs[_OpenDialog]("feeds")


def open_dialog(kind: str, feed: Feed | None = None) -> None:
    """Open a dialog in the next run; feed: None for the dialog that adds a feed."""
    dialogs.open(_OpenDialog(kind, feed))


def switch(feed: Feed) -> None:
    """Enable a disabled feed, or disable an enabled one, and store the result in SWITCH_OUTCOME for `show_message`."""

    def change(feeds: Feeds, actor: Actor) -> str:
        changed = enable(feeds, actor, feed.name, enabled=not feed.enabled)
        return f"The feed {changed.name} is {'enabled' if changed.enabled else 'disabled'}."

    run_action(SWITCH_OUTCOME, _by_visitor(change))


def show_dialog(home: Home) -> None:
    """Show the open dialog, if any."""
    dialog = dialogs.current()
    if dialog is None:
        return
    title = "Add a feed" if dialog.feed is None else f"{dialog.kind.capitalize()} {dialog.feed.name}"

    def content() -> None:
        if dialog.feed is None:
            _add(home)
        elif dialog.kind == EDIT:
            _edit(home, dialog.feed)
        else:
            _delete(dialog.feed)

    dialogs.show(title, content, "large" if dialog.kind != DELETE else "small")


def _add(home: Home) -> None:
    labels = {name: ready_made.label for name, ready_made in READY_MADE.items()} | {_CUSTOM_CHOICE: "Custom settings"}
    options = list(labels)
    choice = str(
        st.selectbox("Feed type", options, options.index(_DEFAULT_CHOICE), labels.__getitem__, key="feeds_ready")
    )
    template = READY_MADE.get(choice)
    if template is not None and template.note:
        st.caption(escape_markdown(template.note))
    kind = (
        template.kind if template else str(st.selectbox("Kind", list(KINDS), key="feeds_kind", format_func=_kind_label))
    )
    st.text_input(
        "Name", key=_NAME_WIDGET, help="Lowercase letters, digits and dashes. Names of its instruments start with it."
    )
    fields = _Fields(kind, f"feeds_settings_{choice}", _key_widget(None))
    st.text_area("Settings", template.settings if template else "{}", _SETTINGS_HEIGHT_PX, key=fields.settings_widget)
    _choose_key(home, None)
    _trial(home, fields)

    def change(feeds: Feeds, actor: Actor) -> str:
        if template is not None and template.needs_key and fields.key is None:
            raise FeedError(f"{template.label} requires a key; add one on the API keys page, then choose it here.")
        feed = add(feeds, actor, str(st.session_state[_NAME_WIDGET]).strip(), kind, fields.settings, fields.key)
        return f"The feed {feed.name} is added; a running Barmill starts it now."

    st.button("Add", type="primary", key="feeds_submit", on_click=dialogs.act_once, args=(_by_visitor(change),))


def _edit(home: Home, feed: Feed) -> None:
    st.caption("The feed reconnects with these settings and continues from its last position.")
    fields = _Fields(feed.kind, f"feeds_edited_{feed.name}", _key_widget(feed.key))
    st.text_area("Settings", feed.settings, _SETTINGS_HEIGHT_PX, key=fields.settings_widget)
    _choose_key(home, feed.key)
    _trial(home, fields)

    def change(feeds: Feeds, actor: Actor) -> str:
        return f"The feed {edit(feeds, actor, feed.name, fields.settings, fields.key).name} is changed."

    st.button("Save", type="primary", key="feeds_submit", on_click=dialogs.act_once, args=(_by_visitor(change),))


def _delete(feed: Feed) -> None:
    st.markdown("The feed stops, and its instrument selection is deleted. Its ticks and bars remain.")

    def change(feeds: Feeds, actor: Actor) -> str:
        delete(feeds, actor, feed.name)
        return f"The feed {feed.name} is deleted."

    st.button("Delete", type="primary", key="feeds_submit", on_click=dialogs.act_once, args=(_by_visitor(change),))


def _choose_key(home: Home, current: str | None) -> None:
    with KeyStore.open(home, require(Permission.MANAGE_FEEDS).actor) as store:
        names = [info.name for info in store.list()]
    index = names.index(current) if current in names else None
    st.selectbox("Key", names, index, key=_key_widget(current), placeholder="None")


def _key_widget(current: str | None) -> str:
    return f"feeds_key_{current or ''}"


def _kind_label(kind: str) -> str:
    return f"{kind}: {KINDS[kind]}"


def _trial(home: Home, fields: _Fields) -> None:
    """Show errors in the settings while they are typed; offer a trial of valid settings."""
    try:
        settings = fields.parsed()
    except FeedError as error:
        st.caption(f":orange[●] {escape_markdown(str(error))}")
        return
    if isinstance(settings, TrialSettings):
        feed_trial(home, lambda: (fields.parsed(), fields.key))


def _by_visitor(change: Change) -> Callable[[], str]:
    def action() -> str:
        actor = require(Permission.MANAGE_FEEDS).actor  # with the current role, not the role when the dialog opened
        try:
            with Feeds.open(Home.find()) as feeds:
                return change(feeds, actor)
        finally:
            read_feed_views.clear()

    return action


def feed_trial(home: Home, inputs: TrialInputs) -> None:
    """Offer a trial of these settings, and show the result of the last trial if it used the same settings and key."""
    st.button("Try it", icon=":material/bolt:", key="feed_trial", on_click=_run_trial, args=(home, inputs))
    show_message(_OUTCOME)
    tried_settings, result = st.session_state.get(_RESULT, (None, None))
    if result is not None and tried_settings == inputs():
        _show_trial(result)


def _run_trial(home: Home, inputs: TrialInputs) -> None:
    actor = require(Permission.MANAGE_FEEDS).actor

    def action() -> str:
        settings, key_name = inputs()
        if isinstance(settings, TrialSettings):
            st.session_state[_RESULT] = ((settings, key_name), run_trial(home, actor, settings, key_name))
        return ""

    st.session_state.pop(_RESULT, None)
    run_action(_OUTCOME, action)


def _show_trial(result: Trial) -> None:
    if result.problem:
        st.error(escape_markdown(result.problem), icon=":material/error:")
    else:
        st.success(result.outcome, icon=":material/check:")
    for note in result.notes:
        st.info(escape_markdown(note), icon=":material/info:")
    raw, mapped = st.columns(2)
    with raw:
        st.subheader("Response", anchor=False)
        st.caption(f"{'Received' if result.raw_text else 'Failed'} {result.took_ms:.0f} ms after this request:")
        st.code(result.redacted_request, language="http", wrap_lines=True)
        st.code(result.raw_text or "No response.", language="json", height=420)
    with mapped:
        st.subheader("Parsed ticks", anchor=False)
        _table("Ticks", _shown_ticks(result.ticks))
        _table("Rejects", _shown_rejects(result.rejects))


def _table(title: str, rows: pl.DataFrame) -> None:
    st.caption(
        f"{title}: {rows.height:,}" if rows.height <= _MAX_ROWS_SHOWN else f"{title}: the first {_MAX_ROWS_SHOWN}"
    )
    if rows.height:
        st.dataframe(rows.head(_MAX_ROWS_SHOWN), hide_index=True, key=f"feed_trial_{title.lower()}", placeholder="–")


def _exact_text(numbers: pl.Series, label: str) -> pl.Series:
    """Return numbers as text, because a table rounds numbers."""
    return pl.Series(label, [None if number is None else number_text(number) for number in numbers], pl.String)


def _shown_ticks(ticks: pl.DataFrame) -> pl.DataFrame:
    if ticks.is_empty():
        return ticks
    return ticks.select(
        pl.from_epoch("time_ns", time_unit="ns").dt.strftime("%Y-%m-%d %H:%M:%S%.3f").alias("Time (UTC)"),
        pl.col("instrument").alias("Instrument"),
        *(_exact_text(ticks[name], label) for name, label in _NUMBER_COLUMNS.items()),
        pl.coalesce(pl.col("id").cast(pl.String), "id_text").alias("Id"),
    )


def _shown_rejects(rejects: pl.DataFrame) -> pl.DataFrame:
    if rejects.is_empty():
        return rejects
    return rejects.select(
        pl.col("detail").alias("Reason"),
        pl.col("time").alias("Time"),
        pl.col("instrument").alias("Instrument"),
        pl.col("price_open").alias("Price"),
        pl.col("volume").alias("Volume"),
        pl.col("id").alias("Id"),
    )
