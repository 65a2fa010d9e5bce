import os
from pathlib import Path

from barmill.platform.home import Home
from control.flink.restore_points import checkpoints, delete_checkpoints, dispose_savepoint, savepoint_in

OLDER, NEWER = "a" * 32, "b" * 32


def checkpoint(home: Home, run: str, number: int, *, at_s: int, complete: bool = True) -> Path:
    folder = home.flink / "checkpoints" / run / f"chk-{number}"
    folder.mkdir(parents=True)
    if complete:
        (folder / "_metadata").write_bytes(b"x")
        os.utime(folder / "_metadata", (at_s, at_s))
    return folder


def test_the_newest_complete_checkpoint_of_any_run_is_taken(home: Home) -> None:
    checkpoint(home, OLDER, 120, at_s=1_000)
    newest = checkpoint(home, NEWER, 2, at_s=3_000)
    checkpoint(home, NEWER, 1, at_s=2_000)
    checkpoint(home, NEWER, 3, at_s=0, complete=False)
    checkpoint(home, "c" * 32, 9, at_s=9_000)  # of another job
    assert next(checkpoint.uri for checkpoint in checkpoints(home, {OLDER: 1, NEWER: 2})) == newest.as_uri()


def test_a_new_run_without_a_checkpoint_of_its_own_goes_back_to_the_one_before(home: Home) -> None:
    older = checkpoint(home, OLDER, 7, at_s=1_000)
    checkpoint(home, NEWER, 1, at_s=0, complete=False)
    assert [checkpoint.uri for checkpoint in checkpoints(home, {NEWER: 2, OLDER: 1})] == [older.as_uri()]
    assert checkpoints(home, {NEWER: 2}) == []


def test_forgotten_runs_leave_nothing_and_others_stay(home: Home) -> None:
    checkpoint(home, OLDER, 7, at_s=1_000)
    newer = checkpoint(home, NEWER, 1, at_s=2_000)
    delete_checkpoints(home, [OLDER, "c" * 32])
    assert not (home.flink / "checkpoints" / OLDER).exists()
    assert [checkpoint.uri for checkpoint in checkpoints(home, {NEWER: 2, OLDER: 1})] == [newer.as_uri()]


def test_a_savepoint_counts_when_it_is_complete_and_can_be_disposed_of_twice(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "savepoint-1"
    folder.mkdir(parents=True)
    assert savepoint_in(tmp_path / "a b") is None
    (folder / "_metadata").write_bytes(b"x")
    found = savepoint_in(tmp_path / "a b")
    assert found is not None
    assert found.uri == folder.as_uri()
    dispose_savepoint(found.uri)
    dispose_savepoint(found.uri)
    assert not folder.exists()
