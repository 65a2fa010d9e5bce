import subprocess
import sys

import pytest

from control.home import REPO_ROOT

MODULES = ("cli.main", "cli.job", "control.controller", "feed.ingest", "feed.kafka.shipper", "bar.kafka.materialise")


def imported(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_no_process_but_the_app_holds_pandas(module: str) -> None:
    assert imported(f"import sys, {module}; print('pandas' in sys.modules)") == "False"


def test_who_has_it_keeps_it_and_who_wants_it_later_gets_it() -> None:
    before = "import sys, pandas, bar.sqlite; print(sys.modules['pandas'] is pandas)"
    assert imported(before) == "True"
    assert imported("import bar.sqlite, pandas; print(pandas.Series([1]).sum())") == "1"
