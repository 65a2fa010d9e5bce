"""Helpers of test_market_process.py that other tests use too."""

import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.ports import free_ports
from barmill.simulator.access import AccessKeys

KEY = "test-key-0123456789abcdefghijklmnopqrstuvwxyz"


HEADERS = {"Authorization": f"Bearer {KEY}"}


START_TIMEOUT_S = 120


_log_numbers = itertools.count()


@dataclass(frozen=True)
class RunningMarket:
    """A market process that listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **parameters: str | int) -> requests.Response:
        return requests.get(self.url + path, params=parameters, headers=HEADERS, timeout=30)

    def page(self, cursor: int | None = None, limit: int = 5_000) -> dict[str, Any]:
        answer = self.get("/v1/prices", limit=limit, **({} if cursor is None else {"cursor": cursor}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert isinstance(page, dict)
        return page

    def ticks_after(self, cursor: int | None, up_to: int) -> list[dict[str, Any]]:
        """Read page by page up to and including a cursor."""
        ticks: list[dict[str, Any]] = []
        while not ticks or ticks[-1]["cursor"] < up_to:
            page = self.page(cursor)
            cursor = page["cursor"]
            ticks += page["prices"]
        return [tick for tick in ticks if tick["cursor"] <= up_to]

    def wait_for_ticks(self, count: int) -> int:
        """Wait until the market has given out that many ticks from now on; return its newest cursor."""
        newest = start = self.page()["newest_cursor"]

        def reached() -> bool:
            nonlocal newest
            newest = self.page()["newest_cursor"]
            return bool(newest >= start + count)

        assert wait_until(reached, 60)
        return int(newest)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_market(home: Home, *arguments: str, port: int | None = None) -> Iterator[RunningMarket]:
    """Run a market that knows KEY until the block ends; its port stays free for it when it is killed."""
    port = port or free_ports(1)[0]
    access = AccessKeys.of(home)
    if access.find(KEY) is None:
        access.grant("tests", KEY)
    log = home.root / f"market-{next(_log_numbers)}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "barmill.simulator", "--port", str(port), "--home", str(home.root), *arguments]
        process = subprocess.Popen(command, cwd=REPO_ROOT, stdout=output, stderr=output)
    try:
        wait_until(lambda: "http://" in log.read_text() or process.poll() is not None, START_TIMEOUT_S)
        listening = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        assert listening, log.read_text()
        yield RunningMarket(process, int(listening[1]), log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
