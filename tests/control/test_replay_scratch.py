"""The folder of a replay goes with it, also when it was killed."""

import signal
import subprocess
import sys
from pathlib import Path

from control.home import REPO_ROOT
from control.jobs.replay_scratch import scratch_folder

HOLD = """
import os, signal, sys
from pathlib import Path
from control.jobs.replay_scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "ticks.sqlite").write_text("ticks")
    print(folder, flush=True)
    sys.stdin.read()
"""


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
