"""The trial of a feed's settings as an admin sees it: raw answer and mapped ticks, and never the key."""

import json
from collections.abc import Callable
from contextlib import closing

import pytest
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.model.tick import REASONS
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, read_control_db
from barmill.secrets.store import KeyStore
from tests.pages.conftest import LookAs
from tests.support.canary import canary, leaks
from tests.support.exchanges.rest_server import Asked, Reply, always, standing_in

TIMEOUT_S = 60
ROWS = {"rows": "data", "time": "t", "price": "p", "instrument": "s"}
GOOD = {"data": [{"t": 1_764_140_400_123, "p": 1.5, "s": "EUR/USD"}, {"t": 1, "p": 1, "s": "EUR/USD"}]}


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.0/8"]}')


def _page(settings: str, key: str | None) -> None:
    from barmill.ingest.providers.rest.settings import RestFeed
    from barmill.platform.home import Home
    from pages.parts.feeds.dialogs import feed_trial

    feed_trial(Home.find(), lambda: (RestFeed.model_validate_json(settings), key))


def tried(answers: Callable[[Asked], Reply], key: str | None = None, **given: object) -> AppTest:
    """Open the trial of settings for a server that answers so, and press its button."""
    with standing_in(answers) as server:
        settings = RestFeed.model_validate({"base_url": server.url, "rows": ROWS, "instruments": ["EUR/USD"], **given})
        app = AppTest.from_function(_page, default_timeout=TIMEOUT_S, args=(settings.model_dump_json(), key)).run()
        assert [code.value for code in app.code] == []
        app.button(key="feed_trial").click().run()
    assert not app.exception
    return app


def everything(app: AppTest) -> str:
    shown = [app.error, app.success, app.info, app.caption, app.code, app.markdown, app.subheader]
    tables = [dataframe.value.to_csv() for dataframe in app.dataframe]
    return "\n".join([*(str(element.value) for kind in shown for element in kind), *tables])


def test_raw_answer_ticks_and_rejects_stand_side_by_side() -> None:
    app = tried(always(Reply(GOOD)), path="/prices")
    assert [success.value for success in app.success] == ["1 tick, 1 reject."]
    question, raw = (code.value for code in app.code)
    assert question.startswith("GET http://127.0.0.1:")
    assert json.loads(raw) == GOOD
    ticks, rejects = (dataframe.value for dataframe in app.dataframe)
    assert ticks["Instrument"].tolist() == ["EUR/USD"]
    assert ticks["Time (UTC)"].tolist() == ["2025-11-26 07:00:00.123"]
    assert rejects["Reason"].tolist() == [REASONS["bad_time"]]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=500), "internal error"),
        (Reply({"rows": []}), "matches nothing"),
        (Reply(status=302, headers={"Location": "http://169.254.169.254/"}), "not a public address"),
        (Reply(iter([b"1," * 2**20] * 10_000)), "the rest was not read"),
    ],
)
def test_what_is_wrong_is_one_sentence_on_the_page(reply: Reply, said: str) -> None:
    app = tried(always(reply))
    assert len(app.error) == 1
    assert said in app.error[0].value


def test_the_key_is_used_put_on_record_and_nowhere_shown(home: Home) -> None:
    secret = canary()
    with KeyStore.open(home, Actor("ada")) as store:
        store.add("theirs", "rest", secret)
    echoed = list[str]()

    def echo(asked: Asked) -> Reply:
        echoed.append(asked.headers["x-key"])
        return Reply({"data": [{"t": 1, "p": asked.headers["x-key"], "s": "A"}], "all": dict(asked.headers)})

    app = tried(echo, "theirs", headers={"X-Key": "{key}"})
    assert echoed == [secret]
    assert not leaks(secret, everything(app), repr(app.session_state["feed_trial_result"]))
    with closing(read_control_db(home).conn) as connection:
        names = [record.action for record in search(Database(connection), Search(), limit=2)]
    assert names == ["key.reveal", "feed.try"]


def test_who_may_not_manage_feeds_tries_nothing(look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    with standing_in(always(Reply(GOOD))) as server:
        settings = RestFeed.model_validate({"base_url": server.url, "rows": ROWS})
        app = AppTest.from_function(_page, default_timeout=TIMEOUT_S, args=(settings.model_dump_json(), None)).run()
        app.button(key="feed_trial").click().run()
        assert server.asked == []
    assert not app.dataframe
