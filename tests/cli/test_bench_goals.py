"""The figures of the bench: their goals, the table, stored runs, and the comparison with an earlier one."""

import json
import re
from pathlib import Path

import pytest

from barmill.platform.home import Home
from benchmarks import goals, runs
from benchmarks.peers.compare import _times_as_fast
from benchmarks.private_home import PrivateHomeError
from benchmarks.report import as_text
from benchmarks.start import measure_starts
from benchmarks.usage import machine
from cli import bench
from cli.main import main

STARTS = {
    "new_home": {"live_s": 20.5, "cpu_s": 40.0, "returned_s": 21.0},
    "existing_home": {"live_s": 9.5, "cpu_s": 30.0, "returned_s": 10.0},
    "other_programs_share_of_all_cores": 0.1,
}
RESULT = {"started_utc": "2026-11-30T20:00:00.000+00:00", "size": "full", "commit": None, "up": STARTS}


def lines(figures: goals.Figures, earlier: goals.Figures | None = None) -> dict[str, list[str]]:
    """Return the cells after the title of each figure."""
    _, *rows = goals.goals_table(figures, earlier)
    titles = [figure.title for figure in goals.FIGURES]
    return {
        figure.key: [cell for cell in row.strip().removeprefix(title).split("  ") if cell]
        for figure, title, row in zip(goals.FIGURES, titles, rows, strict=True)
    }


def test_each_figure_has_its_own_key_and_an_unknown_result_measures_none() -> None:
    assert len({figure.key for figure in goals.FIGURES}) == len(goals.FIGURES)
    assert set(goals.figures_of({}).values()) == {None}
    failed = {figure.part: {"not_measured": "no space"} for figure in goals.FIGURES}
    assert set(goals.figures_of(failed).values()) == {None}


def test_the_table_shows_the_goal_and_what_was_not_measured() -> None:
    table = lines(goals.figures_of(RESULT) | {"bulk.bars_per_cpu_s": 2_500_000.0, "moves.bars": 0.0})
    assert [cell.strip() for cell in table["up.again_s"]] == ["9.5 s", "at most 10", "yes"]
    assert [cell.strip() for cell in table["up.new_s"]] == ["20.5 s", "at most 10", "no"]
    assert [cell.strip() for cell in table["up.new_cpu_s"]] == ["40 CPU s", "-", "-"]
    assert [cell.strip() for cell in table["bulk.bars_per_cpu_s"]] == [
        "2,500,000 bars/CPU s",
        "at least 2,000,000",
        "yes",
    ]
    assert [cell.strip() for cell in table["moves.bars"]] == ["0 bars", "at most 0", "yes"]
    assert [cell.strip() for cell in table["kafka.ticks_per_s"]] == ["not measured", "at least 1,500,000", "-"]
    assert "existing home" in as_text({"machine": machine(), "up": STARTS})


def test_a_run_is_compared_figure_by_figure() -> None:
    earlier = {"up.again_s": 19.0, "up.new_s": None, "moves.bars": 0.0}
    table = lines(goals.figures_of(RESULT) | {"moves.bars": 1.0}, earlier)
    assert [cell.strip() for cell in table["up.again_s"][-2:]] == ["19 s", "0.50"]
    assert [cell.strip() for cell in table["up.new_s"][-2:]] == ["not measured", "-"]
    assert [cell.strip() for cell in table["moves.bars"][-2:]] == ["0 bars", "-"]


def test_a_stored_run_is_read_again(tmp_path: Path) -> None:
    path = runs.save(tmp_path / "runs", RESULT)
    assert runs.save(tmp_path / "runs", {**RESULT, "moves": {"not_measured": "no space"}}) == path
    assert json.loads(path.read_text())["moves"] == {"not_measured": "no space"}
    earlier = runs.read_run(path)
    assert (earlier.started_utc, earlier.size) == (RESULT["started_utc"], "full")
    assert earlier.figures == goals.figures_of(RESULT)


def stored(**changes: object) -> bytes:
    return json.dumps({**runs.with_figures(RESULT), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[1, 2]",
        b"{}",
        stored(barmill_bench=2),
        stored(figures={"up.again_s": "9"}),
        stored(figures={"up.again_s": float("nan")}),
        stored(figures=None),
    ],
)
def test_a_file_that_is_no_run_is_one_sentence(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path / "home"))
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["bench", "--only", "test", "--compare", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"barmill: --compare: {path} ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_peers_are_compared_as_ratios_and_a_missing_peer_says_so() -> None:
    costs = {"cpu_s_per_million_ticks": 5.0}
    equal = {"bars_compared": {"bars": 10, "unequal": 0, "only_in_barmill": 0, "only_in_the_other": 0}}
    barmill = {"total_s": 10.0, "ticks_per_s_after_startup": 1_000_000, **costs}
    bytewax = [
        {"workers": 1, "total_s": 25.0, "ticks_per_s_after_startup": 200_000, **costs, **equal},
        {"workers": 2, "total_s": 20.0, "ticks_per_s_after_startup": 250_000, **costs, **equal},
    ]
    polars = [{"total_s": 0.5, "ticks_per_s": 4_000_000, **costs, **equal}]
    ratios = {"bytewax": _times_as_fast(barmill, bytewax), "polars": _times_as_fast(barmill, polars)}
    assert ratios == {
        "bytewax": {"with_startup": 2.0, "after_startup": 4.0},
        "polars": {"with_startup": 0.05, "after_startup": 0.25},
    }
    assert _times_as_fast(barmill | {"ticks_per_s_after_startup": None}, polars)["after_startup"] is None
    run = {"instruments": 100, "barmill": barmill, "times_as_fast": ratios}
    peers = {
        "ticks": 1_000_000,
        "peers_missing": "",
        "runs": [
            {**run, "bytewax": {"runs": bytewax}, "polars": {"runs": polars}, "duckdb": {"not_measured": "no space"}}
        ],
    }
    assert goals.figures_of({"peers": peers})["peers.bytewax_100"] == 2.0
    printed = as_text({"machine": machine(), "peers": peers})
    assert "DuckDB, 100 instruments, could not be measured: no space" in printed
    missing = {**peers, "peers_missing": "Bytewax and DuckDB could not be installed", "runs": [run]}
    assert "Bytewax and DuckDB could not be installed" in as_text({"machine": machine(), "peers": missing})
    assert goals.figures_of({"peers": missing})["peers.duckdb_100"] is None


def test_the_command_compares_with_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(bench._PARTS, "up", lambda *_: STARTS)
    earlier = runs.save(tmp_path, {**RESULT, "commit": "abc"})
    assert main(["bench", "--only", "up", "--quick", "--compare", str(earlier)]) == 0
    printed = capsys.readouterr()
    assert "compared with the run of 2026-11-30T20:00:00.000+00:00 (commit abc)\n" in printed.out
    assert "The sizes differ: full before, quick now" in printed.out
    assert re.search(r"up of an existing home, .* 9.5 s +at most 10 +yes +9.5 s +1.00\n", printed.out)
    [path] = (tmp_path / "home" / "bench" / "runs").iterdir()
    assert f"The result is in {path};" in printed.err
    assert main(["bench", "--only", "up", "--quick", "--compare", str(path)]) == 0
    assert "The sizes differ" not in capsys.readouterr().out


@pytest.mark.parametrize(("answers", "code"), [(0, 0), (1, 1)])
def test_wrong_bars_are_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: int, code: int) -> None:
    kills = {"killed_while_moving": 1, "different_bars": 0, "different_bars_after_the_move": 0}
    compared = {"answers": 9, "moved_s": 1.0, "different_answers": answers, "different_bars": 0}
    moves = {"bars": 100, "kills": kills, "compare": compared, "other_programs_share_of_all_cores": 0.0}
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(bench._PARTS, "moves", lambda *_: moves)
    assert main(["bench", "--only", "moves", "--quick"]) == code


def test_a_start_that_fails_ends_with_the_message_of_up(tmp_path: Path) -> None:
    with pytest.raises(PrivateHomeError, match=r"^barmill: .*contains a character that Flink does not accept"):
        measure_starts(Home(tmp_path / "a:b"))
