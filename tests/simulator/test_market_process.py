"""The demo market as a process: its command line, its end, and going on after a crash.

Other tests of the market import `running_market` from here.
"""

import itertools
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from barmill.platform.home import REPO_ROOT, Home
from tests.support.market_process import HEADERS, KEY, running_market


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def run_to_its_end(*arguments: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "barmill.simulator", *arguments],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stderr


def test_it_ends_by_itself_when_told_to_also_with_a_client_on_the_line(home: Home) -> None:
    with running_market(home) as market:
        url = f"{market.url}/v1/prices/stream"
        with requests.get(url, headers=HEADERS, stream=True, timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines)
            market.process.terminate()
            for _ in lines:
                pass  # the stream comes to its proper end
        assert market.process.wait(30) == 0


def test_it_listens_on_this_machine_alone(home: Home) -> None:
    with running_market(home) as market:
        # Anything wider than 127.0.0.1 would answer on this loopback address too.
        with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, by operating system
            socket.create_connection(("127.0.0.2", market.port), timeout=5).close()
        assert requests.get(f"{market.url}/healthz", timeout=30).ok


def test_a_second_market_on_the_same_home_is_refused(home: Home) -> None:
    with running_market(home):
        status, said = run_to_its_end("--port", "0", "--home", str(home.root))
    assert status == 1
    assert "Another demo market is already running" in said
    assert "Traceback" not in said


def test_an_occupied_port_is_named(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = run_to_its_end("--port", port, "--home", str(home.root))
    assert status == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in said
    assert "Traceback" not in said


def test_a_broken_history_file_is_named(home: Home) -> None:
    (home.market / "history.sqlite").write_bytes(b"this is no database" * 1_000)
    status, said = run_to_its_end("--port", "0", "--home", str(home.root))
    assert status == 1
    assert "cannot store its history" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("wrong", [("--rate", "0"), ("--rate", "nan"), ("--rate", "99999"), ("--history-ticks", "0")])
def test_senseless_settings_are_refused(home: Home, wrong: tuple[str, str]) -> None:
    status, said = run_to_its_end("--port", "0", "--home", str(home.root), *wrong)
    assert status == 2
    assert wrong[0] in said


def test_after_a_crash_it_goes_on_where_it_stopped(home: Home) -> None:
    with running_market(home, "--rate", "10") as market:
        before = market.wait_for_ticks(1_000)
        market.kill()
    with running_market(home, "--rate", "10") as market:
        ticks = market.ticks_after(None, market.wait_for_ticks(1_000))
    cursors = [tick["cursor"] for tick in ticks]
    assert cursors == list(range(cursors[0], cursors[-1] + 1))
    assert cursors[0] < before < cursors[-1]
    first_times = dict[tuple[str, int], dict[str, Any]]()
    for tick in ticks:  # the same id again only as the same tick again
        known = first_times.setdefault((tick["instrument"], tick["id"]), tick)
        assert {**known, "cursor": 0} == {**tick, "cursor": 0}
    mine = sorted(
        (tick for tick in first_times.values() if tick["instrument"] == "OAKR/USD"), key=lambda tick: tick["id"]
    )
    assert all(earlier["time"] <= other["time"] for earlier, other in itertools.pairwise(mine))
    assert all(
        abs(other["price_open"] / earlier["price_close"] - 1) < 0.02 for earlier, other in itertools.pairwise(mine)
    )


def test_a_market_that_lost_its_files_gives_out_no_number_twice(home: Home) -> None:
    with running_market(home, "--rate", "10") as market:
        newest = market.wait_for_ticks(200)
        last_id = max(tick["id"] for tick in market.page()["prices"])
    for file in home.market.glob("history.sqlite*"):
        file.unlink()
    with running_market(home, "--rate", "10") as market:
        market.wait_for_ticks(50)
        answer = market.get("/v1/prices", cursor=newest)
        assert answer.status_code == 410
        page = market.page()
    assert page["prices"][0]["cursor"] > newest
    assert min(tick["id"] for tick in page["prices"]) > last_id


def resident_kib(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def test_a_client_that_does_not_read_neither_holds_up_others_nor_is_queued_for(home: Home) -> None:
    with running_market(home, "--rate", "250", "--history-ticks", "30000") as market:
        with socket.create_connection(("127.0.0.1", market.port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            stuck.sendall(f"GET /v1/prices/stream HTTP/1.1\r\nHost: market\r\nX-API-Key: {KEY}\r\n\r\n".encode())
            stuck.recv(1_000)
            read, sent, last = 0, 0, None
            with requests.get(f"{market.url}/v1/prices/stream", headers=HEADERS, stream=True, timeout=30) as stream:
                for line in stream.iter_lines(chunk_size=65_536):
                    row, sent = json.loads(line), sent + len(line)
                    if "heartbeat" not in row:
                        assert last is None or row["cursor"] == last + 1
                        last, read = row["cursor"], read + 1
                    if read >= 100_000:
                        break
            if Path("/proc").exists():
                assert resident_kib(market.process.pid) < 200_000
            # Its place in the history is gone, so its stream ends: with the last chunk, or with the connection.
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n") and (part := stuck.recv(1_000_000)):
                received += part
        # While it is read out at last, the market sends on; but what was sent to the other client meanwhile is lost.
        assert len(received) < sent * 3 / 4
        numbers = [int(found) for found in re.findall(rb'\{"cursor":(\d+),', received)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert market.get("/v1/prices/stream", cursor=numbers[-1]).status_code == 410
