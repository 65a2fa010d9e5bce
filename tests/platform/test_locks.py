import subprocess
import sys
import threading
from pathlib import Path

import pytest

from barmill.platform.locks import exclusive, is_held

HOLD = """
import sys
from pathlib import Path
from barmill.platform.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_lock_is_held_during_its_block_only(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert not is_held(path)
    with exclusive(path):
        assert is_held(path)
        with pytest.raises(BlockingIOError), exclusive(path, wait=False):
            pytest.fail("two blocks hold the same lock")
    assert not is_held(path)
    with exclusive(path, wait=False):
        assert is_held(path)


def test_a_waiting_thread_gets_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    entered = threading.Event()

    def wait_for_it() -> None:
        with exclusive(path):
            entered.set()

    with exclusive(path):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        assert not entered.is_set()
    waiting.join(timeout=30)
    assert entered.is_set()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert is_held(path)
    holder.kill()
    holder.wait()
    assert not is_held(path)
    holder.stdin.close()
    holder.stdout.close()
