"""A home in which a user stopped the job that makes 1s bars, while another job makes longer bars."""

import json

from barmill.audit.roles import Actor
from barmill.model.frames import parse_frame
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from control.jobs.service import JobService
from tests.support.controller import PlayedController
from tests.support.stores import Stores

AAA, BY = "AAA/USD", "os:ada"
LONG = tuple(map(parse_frame, ("1m", "1h")))


def seconds_stopped(home: Home, *, silent_ms: int = 60_000, delete: bool = False) -> Stores:
    """Return the writing side of the job `long`, which has just written; `bars` was stopped, or also deleted."""
    controller = PlayedController(home)
    with JobService.open(home, Actor(BY)) as service:
        service.ensure_default_job()
        service.create(json.dumps({"name": "long", "frames": "1m,1h"}))
        for name in ("bars", "long"):
            service.start(name)
        controller.done()
        past_ms = now_ms() - silent_ms
        stores = Stores(home)
        stores.write([(past_ms - 1_000 * s, AAA, 100 + s / 4, 1.0) for s in range(30, 0, -1)], closed_to_ms=past_ms)
        stores.close()
        service.stop("bars")
        controller.done()
        if delete:
            service.delete("bars")
            controller.done()
    controller.close()
    stores = Stores(home, job="long", frames=LONG)
    at_ms = now_ms()
    stores.write([(at_ms - 50, AAA, 90.0, 1.0)], closed_to_ms=at_ms)
    stores.stay_heard()
    return stores
