"""`barmill bars`: any frame, any range, as known at any time, in three formats."""

import io
import json
from pathlib import Path

import polars as pl
import pytest

from barmill.platform.home import Home
from cli.main import main
from tests.support.rollup import MINUTE_MS, NAME, seconds, stored


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path))
    return Home(tmp_path)


@pytest.fixture
def bars(home: Home, capfdbinary: pytest.CaptureFixture[bytes]):  # type: ignore[no-untyped-def]
    stored(home.bars_db, seconds((0, 5.0), (1, 6.0), (4, 7.0), (61, 8.0))).close()

    def run(*arguments: str) -> bytes:
        assert main(["bars", "--instrument", NAME, *arguments]) == 0
        return capfdbinary.readouterr().out

    return run


def test_a_frame_that_is_not_stored_is_rolled_up(bars) -> None:  # type: ignore[no-untyped-def]
    table = pl.read_csv(io.BytesIO(bars("--frame", "1m")))
    assert table.select("start_ms", "open", "close", "ticks").rows() == [
        (MINUTE_MS, 5.0, 7.0, 3),
        (MINUTE_MS + 60_000, 8.0, 8.0, 1),
    ]
    assert pl.read_parquet(io.BytesIO(bars("--frame", "1m", "--format", "parquet"))).equals(table)


def test_the_newest_are_filled_by_choice(bars) -> None:  # type: ignore[no-untyped-def]
    asked = ("--frame", "1s", "--to", str(MINUTE_MS + 5_000), "--newest", "3", "--fill", "--format", "json")
    found = [(bar["start_ms"] - MINUTE_MS, bar["state"]) for bar in json.loads(bars(*asked))]
    assert found == [(2_000, "synthetic"), (3_000, "synthetic"), (4_000, "closed")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--instrument", "XYZ", "--frame", "1s"], "There are no bars of XYZ; the store has A/USD.\n"),
        (["--frame", "5x"], "--frame: '5x' is not a time frame: write a whole number and one of s, m, h, d, w"),
        (["--frame", "1m", "--from", "noon"], "--from noon is not a time; write it like 2026-11-23T09:30:00Z.\n"),
    ],
)
def test_what_cannot_be_answered_says_what_can(
    home: Home, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(home.bars_db, seconds((0, 5.0))).close()
    assert main(["bars", "--instrument", NAME, *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"barmill: {said}")


def test_a_frame_that_cannot_be_made_names_those_there_are(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    minutes = seconds((0, 5.0)).with_columns(frame=pl.lit("1m"))
    stored(home.bars_db, minutes).close()
    assert main(["bars", "--instrument", NAME, "--frame", "90s"]) == 1
    assert (
        "There are no 90s bars of A/USD, and no bars to make them from; its frames are 1m." in capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ["0", "abc", "-1", "1e3"])
def test_no_bars_is_no_number_of_bars(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        main(["bars", "--instrument", NAME, "--frame", "1s", f"--newest={text}"])
    assert f"{text} is not a number of bars; write a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "abc", "65536", "80.5"])
def test_what_is_no_port_is_a_sentence(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--port", text])
    assert f"{text} is not a port; use one from 1 to 65535." in capsys.readouterr().err
