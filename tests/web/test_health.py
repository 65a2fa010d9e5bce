from collections.abc import Iterator

import httpx
import pytest

from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_for_writing
from tests.support.serving import serving


@pytest.fixture
def client(home: Home) -> Iterator[httpx.Client]:
    with serving(home) as address, httpx.Client(base_url=address) as client:
        yield client


def test_health_is_open_and_tells_a_store_that_is_missing_from_one_that_is_broken(
    client: httpx.Client, home: Home
) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "app": "ok",
        "stores": {"control": "ok", "ticks": "not there yet", "bars": "not there yet"},
    }
    open_for_writing(home.bars_db).conn.close()
    home.ticks_db.write_bytes(b"this is no database" * 100)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "failing"
    assert answer.json()["stores"] == {"control": "ok", "ticks": "unreadable", "bars": "ok"}
    assert str(home.root) not in answer.text
