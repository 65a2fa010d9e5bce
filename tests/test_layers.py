"""Imports point down the layers that pyproject.toml names; no packages and no test modules import each other."""

import re
import subprocess
import sys
from pathlib import Path

from barmill.platform.home import REPO_ROOT


def test_every_import_points_down() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:]


def test_no_test_module_imports_another() -> None:
    imports = re.compile(r"^from (tests\.(?:\w+\.)*test_\w+) import", re.MULTILINE)
    found = {
        str(path.relative_to(REPO_ROOT)): names
        for path in (REPO_ROOT / "tests").rglob("*.py")
        if (names := imports.findall(path.read_text("utf-8")))
    }
    assert found == {}
