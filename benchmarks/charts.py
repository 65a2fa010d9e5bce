"""How soon a tick is on a trader's chart, and what the chart costs."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.usage import CommandFailedError, measure, python


def needs_playwright() -> None:
    """Raise CommandFailedError where no browser can be driven."""
    if importlib.util.find_spec("playwright") is None:
        raise CommandFailedError("There is no Playwright; ./barmill test installs it.")


def charts(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Look at a private Barmill's chart in a headless Chromium; its home stays only if something failed."""
    needs_playwright()
    home = folder / "charts"
    shutil.rmtree(home, ignore_errors=True)
    say(f"A chart of a Barmill of its own in a browser, for {scale.window_s:.0f} s.")
    times = ("--warm-up", str(scale.warm_up_s), "--window", str(scale.window_s))
    taken = measure(python("benchmarks.charts_once", "--home", str(home), *times))
    shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = json.loads(taken.output)
    return found | {"other_programs_share_of_all_cores": round(taken.others_share, 3)}
