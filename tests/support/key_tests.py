"""Helpers of test_key_tests.py that other tests use too."""

import json
from dataclasses import asdict

from barmill.platform.home import Home
from barmill.platform.ports import Ports


def settle_port(home: Home, market: int) -> None:
    (home.run / "ports.json").write_text(json.dumps(asdict(Ports(1, market, 2, 3))))
