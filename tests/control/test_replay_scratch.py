"""A replay without a cluster, and its folder, which is removed even after a kill."""

import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from barmill.ingest.files.layout import Layout
from barmill.model.frames import parse_frame
from barmill.platform.home import REPO_ROOT, Home
from barmill.storage.reader import BarReader
from control.flink.rest import FlinkRest
from control.jobs.replay_run import ReplayRequest, rejects, run, scratch_folder

HOLD = """
import os, signal, sys
from pathlib import Path
from control.jobs.replay_run import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "ticks.sqlite").write_text("ticks")
    print(folder, flush=True)
    sys.stdin.read()
"""


class NoCluster(AbstractContextManager[FlinkRest]):
    """A cluster that must not be needed."""

    def __enter__(self) -> FlinkRest:
        raise AssertionError("A cluster was started.")

    def __exit__(self, *_: object) -> None:
        pass


def test_a_file_without_a_tick_is_accounted_for_without_a_cluster(tmp_path: Path) -> None:
    path, home = tmp_path / "days.csv", Home(tmp_path / "home")
    path.write_text("time,instrument,price\n2026-11-24,AAPL,231.10\n2026-11-25,AAPL,233.45\n")
    request = ReplayRequest([path], Layout(), [parse_frame("1h")], 0)
    outcome = run(request, home, cluster=NoCluster())
    assert (outcome.read, outcome.accepted, outcome.rejected, outcome.bars) == (2, 0, {"bad_time": 2}, {})
    assert rejects(home)["line"].to_list() == [2, 3]
    assert next(iter(BarReader.open(home.bars_db).all_bars())).height == 0


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    command = [sys.executable, "-c", HOLD, str(parent)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO_ROOT)
    assert holder.stdout is not None
    return holder, Path(holder.stdout.readline().strip())


def test_a_folder_is_removed_at_its_end_and_that_of_a_killed_replay_at_the_next_start(tmp_path: Path) -> None:
    killed, left = hold(tmp_path)
    living, used = hold(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "ticks.sqlite").exists()
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert not left.exists()
        assert (used / "ticks.sqlite").exists()
    living.communicate("")
    assert not folder.exists()
    assert not used.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    for holder in (killed, living):
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.close()
        holder.stdout.close()
