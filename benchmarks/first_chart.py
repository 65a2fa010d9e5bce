"""How soon a chart is there when the store is large."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.charts import needs_playwright
from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.usage import measure, python


def first_chart(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Open charts over a large store in a headless Chromium."""
    needs_playwright()
    home = folder / "first_chart"
    shutil.rmtree(home, ignore_errors=True)
    bars, visits = str(scale.first_chart_bars), str(scale.first_chart_visits)
    say(f"Charts over a store of {scale.first_chart_bars:,} bars, opened in {visits} new browsers.")
    try:
        taken = measure(python("benchmarks.first_chart_once", "--home", str(home), bars, visits))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = json.loads(taken.output)
    return found | {"other_programs_share_of_all_cores": round(taken.others_share, 3)}
