import subprocess
import sys

import pytest

from barmill.platform.home import REPO_ROOT

MODULES = (
    "cli.main",
    "cli.job",
    "control.controller",
    "control.ingest",
    "barmill.kafka.shipper",
    "barmill.kafka.materialiser",
)


def imported(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_no_process_but_the_app_holds_pandas(module: str) -> None:
    assert imported(f"import sys, {module}; print('pandas' in sys.modules)") == "False"


def test_who_has_it_keeps_it_and_who_wants_it_later_gets_it() -> None:
    before = "import sys, pandas, barmill.platform.sqlite_file; print(sys.modules['pandas'] is pandas)"
    assert imported(before) == "True"
    assert imported("import barmill.platform.sqlite_file, pandas; print(pandas.Series([1]).sum())") == "1"
