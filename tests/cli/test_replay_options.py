"""The options of `barmill replay`: how files are read, the look at them, and what is said at the end."""

import argparse
import json
from pathlib import Path

import pytest

from cli import main, replay
from cli.replay_layout import layout_of
from control.jobs.replay_run import ReplayResult
from tests.support.ticks import START_MS


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    return parser.parse_args(["t.csv", "--out", "bars.csv", *arguments])


def test_options_become_a_layout() -> None:
    layout = layout_of(
        parsed(
            *("--map", "time=date+time", "--map", "bid=b", "--map", "ask=a", "--columns", "date,time,b,a,x,y"),
            *("--id", "x,y", "--instrument", "EUR/USD", "--zone", "Europe/Paris", "--time-format", "%Y%m%d %H:%M"),
            *("--decimal", ",", "--amounts", "signed"),
        )
    )
    assert layout.sources == {
        "time": ("date", "time"),
        "price_bid": ("b",),
        "price_ask": ("a",),
        "id": ("x", "y"),
    }
    assert layout.constants == {"instrument": "EUR/USD"}
    assert layout.columns == ("date", "time", "b", "a", "x", "y")
    assert (layout.zone, layout.time_format, layout.decimal) == ("Europe/Paris", "%Y%m%d %H:%M", ",")
    assert (layout.absolute, layout.header) == (True, True)


def test_a_mapping_of_a_feed_is_read_and_options_win(tmp_path: Path) -> None:
    mapping = {"time": "T", "instrument": "s", "price": "p", "time_format": "ms", "id": ["a", "b"]}
    path = tmp_path / "feed.json"
    for settings in (mapping, {"url": "https://api.example.com", "mapping": mapping}):
        path.write_text(json.dumps(settings))
        layout = layout_of(parsed("--mapping", str(path), "--map", "price=last", "--instrument", "A"))
        assert layout.sources == {"time": ("T",), "price": ("last",), "id": ("a", "b")}
        assert (layout.constants, layout.time_format) == ({"instrument": "A"}, "ms")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--map", "time"], "--map time is not FIELD=COLUMN"),
        (["--map", "when=ts"], "there is no field when; the fields are time, instrument"),
        (["--map", "time=a", "--map", "time=b"], "--map names time twice"),
        (["--id", "a,,b"], "--id a,,b is not a list of different names"),
        (["--columns", "a,a"], "--columns a,a is not a list of different names"),
        (["--zone", "Mars/Olympus"], "--zone: Mars/Olympus is not a time zone"),
        (["--time-format", "%H:%M:%S"], "--time-format: %H:%M:%S is not auto"),
        (["--instrument", "A", "--map", "instrument=s"], "--instrument needs a name"),
        (["--map", "price=a", "--map", "bid=b"], "The price is mapped in several ways"),
        (["--mapping", "nowhere.json"], "--mapping: nowhere.json cannot be read"),
        (["--mapping", "bad.json"], "--mapping: bad.json is not JSON"),
        (["--mapping", "empty.json"], "--mapping: empty.json: time: Field required"),
        (["--mapping", "key.json"], "instrument: {key} is only valid in a feed"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("time,instrument,price\n")
    Path("bad.json").write_text("{")
    Path("empty.json").write_text("{}")
    Path("key.json").write_text('{"time": "T", "instrument": "{key}", "price": "p"}')
    assert main.main(["replay", "t.csv", "--dry-run", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(["replay", "--dry-run", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_a_dry_run_says_what_was_found_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{START_MS + minute * 60_000},A,{minute + 1}" for minute in (2, 1, 0)]
    files = [tmp_path / "t-10.csv", tmp_path / "t-2.csv"]
    files[0].write_text("\n".join(["time,instrument,price", *rows]))
    files[1].write_text(f"time,instrument,price\n{START_MS},A,1\n")
    code, out, err = dry_run(capsys, *map(str, files))
    assert (code, err) == (0, "")
    assert f"Files are read in order of time: {files[1]}, {files[0]}" in out
    assert f"suggestion: {files[0]}: The newest rows are first; use --newest-first." in out
    code, out, _ = dry_run(capsys, "--json", *map(str, files))
    inspection = json.loads(out)
    assert inspection["files"] == [str(files[1]), str(files[0])]
    assert [(document["rows"], document["ticks"], document["order"]) for document in inspection["documents"]] == [
        (1, 1, "one time"),
        (3, 3, "newest first"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t-10.csv", "t-2.csv"]


def test_a_dry_run_without_a_tick_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,instrument,price\nsoon,A,1\n")
    assert dry_run(capsys, str(path))[0] == 1
    path.write_text(json.dumps({"T": START_MS, "s": "A", "p": "1"}))
    code, out, err = dry_run(capsys, str(path))
    assert (code, out) == (1, "")
    assert "perhaps --map time=T --map instrument=s --map price=p" in err


def ended(outcome: ReplayResult, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = replay.report(outcome, parsed())
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("read", "rejected", "sentence"),
    [
        (0, {}, "has no rows, so there are no bars"),
        (
            3,
            {"bad_time": 2, "bad_number": 1},
            "--map time=COLUMN, or describe its format with --time-format or --zone",
        ),
        (2, {"bad_number": 2}, "set --decimal , if needed"),
        (1, {"broken_line": 1}, "write them to a file with --rejects REJECTS.csv"),
    ],
)
def test_no_tick_at_all_is_exit_code_1_with_a_hint(
    read: int, rejected: dict[str, int], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = ended(ReplayResult(read, 0, rejected, {}, 1.0, 0.0), capsys)
    assert code == 1
    assert sentence in err


def test_rates_are_stated_only_where_they_were_measured(capsys: pytest.CaptureFixture[str]) -> None:
    for folding_s, took, after_startup in (
        (0.0, "took      10.0 s\n", None),
        (1.9, "took      10.0 s\n", None),
        (2.0, "took      10.0 s: 500 ticks/s, 2,500 ticks/s after start-up\n", 2_500),
    ):
        outcome = ReplayResult(5_000, 5_000, {}, {"1m": 6}, 10.0, folding_s)
        assert replay.report(outcome, parsed()) == 0
        assert took in capsys.readouterr().out
        assert replay.report(outcome, parsed("--json")) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["ticks_per_s"], found["ticks_per_s_after_startup"]) == (500, after_startup)


def test_late_rows_are_explained_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = ReplayResult(21, 6, {"too_late": 15}, {"1m": 6}, 1.0, 0.0, latest_ms=1_200_000)
    code, err = ended(outcome, capsys)
    assert code == 0
    assert "15 rows are too far behind their instrument's newest tick; use --sort, or a longer --lateness" in err


def test_damage_is_named_where_other_rows_were_read(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = ReplayResult(1_001, 1_000, {"truncated_file": 1}, {"1m": 6}, 1.0, 0.0)
    code, err = ended(outcome, capsys)
    assert code == 0
    assert "A file is damaged or truncated; the rejects show where" in err
