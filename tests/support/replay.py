"""Helpers of test_replay.py that other tests use too."""

import pytest

from barmill.platform.home import REPO_ROOT

GOLDEN = REPO_ROOT.parent / "shared" / "data"


needs_golden = pytest.mark.skipif(
    not GOLDEN.exists(), reason="the real ticks of shared/data are not beside the project"
)
