"""How many of our own frames lie between Streamlit and SQLite when a page is rendered.

Counted at every query and every opening of a file: the frames of this repository from SQLite up to the innermost frame
of Streamlit, which is the script runner, a fragment or a cache. Generator expressions and lambdas count.
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from barmill.platform.clock import now_ms
from barmill.platform.home import REPO_ROOT, Home
from tests.pages.conftest import opened
from tests.support.roles import PAGES
from tests.support.stores import Stores

MOST_FRAMES = 8
_connect = sqlite3.connect


def our_frames() -> list[str] | None:
    """Return our frames of the caller's stack below Streamlit, innermost first; None if Streamlit is not in it."""
    frame, ours = sys._getframe(1), list[str]()
    while frame.f_back is not None:
        frame = frame.f_back
        path = frame.f_code.co_filename
        if "/site-packages/streamlit/" in path:
            return ours
        if path.startswith(f"{REPO_ROOT}/") and "/tests/" not in path and "/site-packages/" not in path:
            ours.append(f"{path.removeprefix(f'{REPO_ROOT}/')}:{frame.f_code.co_name}")
    return None


@contextmanager
def longest_chain() -> Iterator[list[str]]:
    """Fill a list with the longest chain of our frames that the block meets."""
    longest: list[str] = []

    def note() -> None:
        chain = our_frames()
        if chain is not None and len(chain) > len(longest):
            longest[:] = chain

    class Noting(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            note()
            return super().execute(*args)

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        note()
        return _connect(*args, **options, factory=Noting)

    with patch.object(sqlite3, "connect", connect):
        yield longest


@pytest.fixture
def _market(home: Home) -> None:
    stores, end_ms = Stores(home), now_ms() // 1_000 * 1_000
    stores.write(
        [(end_ms - 1_000 * s + 500, "AAA/USD", 100 + s / 4, 2.0) for s in range(90, 0, -1)], closed_to_ms=end_ms
    )
    stores.close()


@pytest.mark.usefixtures("use_home", "controller", "_market")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_a_few_calls_away_from_its_data(page: str) -> None:
    with longest_chain() as chain:
        app = opened(page)
    assert not app.exception
    assert chain
    assert len(chain) <= MOST_FRAMES, "\n".join(reversed(chain))


@pytest.mark.usefixtures("use_home", "controller", "_market")
def test_a_chart_as_of_an_earlier_time_is_no_further_away() -> None:
    with longest_chain() as chain:
        app = opened("chart", instrument="AAA/USD", frame="5s", as_of=str(now_ms() - 10_000))
    assert not app.exception
    assert 0 < len(chain) <= MOST_FRAMES, "\n".join(reversed(chain))
