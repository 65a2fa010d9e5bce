"""A home in which one job makes seconds and was stopped by a person, and another one goes on with longer bars."""

import json

from bar.clock import now_ms
from bar.frames import parse_frame
from control.home import Home
from control.jobs.book import JobBook
from control.people.roles import Actor
from tests.pages.controller import PlayedController
from tests.pages.stores import Stores

AAA, BY = "AAA/USD", "os:ada"
LONG = tuple(map(parse_frame, ("1m", "1h")))


def seconds_stopped(home: Home, *, silent_ms: int = 60_000, delete: bool = False) -> Stores:
    """Return the writing side of the job `long`, which has just written; `bars` was stopped, or also deleted."""
    controller = PlayedController(home)
    with JobBook.open(home, Actor(BY)) as book:
        book.ensure_default_job()
        book.create(json.dumps({"name": "long", "frames": "1m,1h"}))
        for name in ("bars", "long"):
            book.start(name)
        controller.done()
        past_ms = now_ms() - silent_ms
        stores = Stores(home)
        stores.write([(past_ms - 1_000 * s, AAA, 100 + s / 4, 1.0) for s in range(30, 0, -1)], closed_to_ms=past_ms)
        stores.close()
        book.stop("bars")
        controller.done()
        if delete:
            book.delete("bars")
            controller.done()
    controller.close()
    stores = Stores(home, job="long", frames=LONG)
    at_ms = now_ms()
    stores.write([(at_ms - 50, AAA, 90.0, 1.0)], closed_to_ms=at_ms)
    stores.stay_heard()
    return stores
