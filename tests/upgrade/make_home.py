"""Make a small home with the present version of Barmill and pack it, so that later versions are tested against it.

    python -m tests.upgrade.make_home tests/upgrade/home-0.1.0.tar.gz

Run it in a checkout of the version whose home is wanted. It starts everything with `./barmill up` over a made-up
recording that runs at the speed of the clock, stops the usual job with a savepoint, lets ticks come in that the
savepoint has not seen, and stops. A second job of 5s and 5m ran for a while before that and was stopped for good.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from random import Random

from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog

JOB = "bars"
STOPPED_JOB = "fives"
KEY, SECRET = "archive", "made-up-secret-of-a-test"
# What belongs to running processes, or can be measured again, is left out.
_LEFT_OUT = ("run", "log", "market", "monitor.sqlite", "prices.csv")
_KEPT_OF_FLINK = ("home/flink/jobs", "home/flink/savepoints")
_TIMEOUT_S = 120.0
_INSTRUMENTS = ("AAA/USD", "BBB/USD", "CCC/EUR")
_TICKS_PER_S, _SECONDS = 30, 600
_MORE_TICKS = 900


def main(target: Path) -> None:
    """Make the home and pack it into `target`."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").create()
        prices = home.root / "prices.csv"
        prices.write_text(_recording(), "utf-8")
        (home.root / "feed.json").write_text(json.dumps({"provider": "replay", "files": [str(prices)]}), "utf-8")
        _call(home, "up", "--detach", "--no-browser", "--port", "18642")
        try:
            _fill(home)
        finally:
            _call(home, "down")
        with tarfile.open(target, "w:gz") as packed:
            packed.add(home.root, "home", filter=_kept)


def _recording() -> str:
    """Return prices as CSV: every tenth one some seconds late, a part of them with sizes."""
    random = Random(1)
    begin_ms = 1_764_072_000_000
    rows = ["time,instrument,price_open,price_close,volume,id"]
    for number in range(_TICKS_PER_S * _SECONDS):
        late_ms = random.randrange(20_000) if number % 10 == 0 else 0
        price = 100 + random.randrange(-500, 500) / 100
        volume = "" if number % 3 else random.randrange(1, 10_000) / 1_000
        time_ms = begin_ms + number * 1_000 // _TICKS_PER_S - late_ms
        rows.append(f"{time_ms},{random.choice(_INSTRUMENTS)},{price},{price},{volume},{number + 1}")
    return "\n".join(rows) + "\n"


def _fill(home: Home) -> None:
    _call(home, "key", "add", KEY, "--provider", "finnhub", given=SECRET)
    _call(home, "job", "create", "-", given=json.dumps({"name": STOPPED_JOB, "frames": "5s,5m"}))
    _call(home, "job", "start", STOPPED_JOB, "--wait")
    _await(
        lambda: any(
            progress.job == STOPPED_JOB and progress.read for progress in BarReader.open(home.bars_db).progress()
        )
    )
    _call(home, "job", "stop", STOPPED_JOB, "--wait")
    _await_ticks(home, _MORE_TICKS)
    _call(home, "job", "stop", JOB, "--wait")
    _await_ticks(home, _MORE_TICKS // 2)


def _await_ticks(home: Home, more: int) -> None:
    def end() -> int:
        with TickLog.read_only(home.ticks_db) as log:
            return log.end_sequence()

    wanted = end() + more
    _await(lambda: end() >= wanted)


def _await(condition: object) -> None:
    if not wait_until(condition, _TIMEOUT_S, every_s=0.5):  # type: ignore[arg-type]
        raise SystemExit("The home was not filled in time.")


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = member.name.removeprefix("home").lstrip("/")
    left_out = any(name == part or name.startswith(f"{part}/") or name.startswith(f"{part}-") for part in _LEFT_OUT)
    if name.startswith("flink/") and not member.name.startswith(_KEPT_OF_FLINK):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if left_out else member


def _call(home: Home, *arguments: str, given: str | None = None) -> None:
    environment = os.environ | {"BARMILL_HOME": str(home.root)}
    subprocess.run([REPO_ROOT / "barmill", *arguments], input=given, text=True, env=environment, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
