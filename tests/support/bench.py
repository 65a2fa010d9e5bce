"""Helpers of test_bench.py that other tests use too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from barmill.platform.home import PYTHON_PATH


def bench(home: Path, *parts: str, compare: Path | None = None) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli.main", "bench", "--json", "--ticks", "20000"]
    command += [word for part in parts for word in ("--only", part)]
    command += ["--compare", str(compare)] if compare else []
    environment = {**os.environ, "BARMILL_HOME": str(home), "PYTHONPATH": PYTHON_PATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    return result
