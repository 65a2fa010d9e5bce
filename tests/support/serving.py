"""The app of a home as a separate process, as `./barmill up` starts it."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from barmill.platform.clock import wait_until
from barmill.platform.home import PYTHON_PATH, REPO_ROOT, Home
from barmill.platform.ports import LOOPBACK, free_ports

# It takes seconds; on a machine that many others use it took more than a minute.
START_S = 240
# Of an app that starts, on such a machine, an answer may take seconds too.
ANSWER_S = 10


@contextmanager
def serving(home: Home, port: int | None = None, most_files: int | None = None) -> Iterator[str]:
    """Run the app of a home and lend its address. most_files: how many files it may have open."""
    port = port or free_ports(1)[0]
    address = f"http://{LOOPBACK}:{port}"
    limit = [] if most_files is None else ["prlimit", f"--nofile={most_files}:{most_files}"]
    command = [*limit, sys.executable, "-m", "web", "--home", str(home.root), "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    with (home.log / "app.log").open("ab") as log:
        app = subprocess.Popen(command, cwd=REPO_ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        assert wait_until(lambda: app.poll() is not None or _healthy(address), START_S)
        assert app.poll() is None, (home.log / "app.log").read_text()
        yield address
    finally:
        app.terminate()
        app.wait()


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except (TimeoutError, urllib.error.URLError, ConnectionError):
        return False
