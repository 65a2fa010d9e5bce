"""Trades as a source has them: their order, the ids that it gives them, and how it writes them."""

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

START_NS = 1_735_732_800 * 10**9
_STEPS_MS = (0, 0, 0, 1, 1, 7, 400, 30_000)


@dataclass(frozen=True)
class Made:
    """One trade. ids: the parts of its id as they are sent; number: where ids rise, for the order of ties."""

    time_ns: int
    instrument: str
    price: Decimal
    volume: str
    ids: tuple[int | str, ...] = ()
    number: int = 0

    @property
    def id_text(self) -> str | None:
        """Return the id as it must be kept: exactly as sent, parts joined by / and escaped."""
        if len(self.ids) < 2:
            return str(self.ids[0]) if self.ids else None
        return "/".join(str(part).replace("\\", "\\\\").replace("/", "\\/") for part in self.ids)


def _none(_: random.Random, __: int) -> tuple[int | str, ...]:
    return ()


def _uuid(luck: random.Random, _: int) -> tuple[int | str, ...]:
    return (str(uuid.UUID(int=luck.getrandbits(128))),)


def _joined(luck: random.Random, number: int) -> tuple[int | str, ...]:
    return luck.choice(("X", "Y/", "\\", "a,b", "7")), luck.choice((number, f"{number:04d}", f"/{number}"))


def _counted(_: random.Random, number: int) -> tuple[int | str, ...]:
    return (f"E-{number}",)


def _huge(_: random.Random, number: int) -> tuple[int | str, ...]:
    return (10**25 + number,)


def _restarting(luck: random.Random, number: int) -> tuple[int | str, ...]:
    at = number % luck.choice((7, 50, 1_000))
    return (luck.choice((at, str(at), f"{at:03d}", f"{at:05d}")),)


IDS: dict[str, Callable[[random.Random, int], tuple[int | str, ...]]] = {
    "none": _none, "uuid": _uuid, "joined": _joined, "counted": _counted, "huge": _huge, "restarting": _restarting,
}  # fmt: skip


def trades(luck: random.Random, count: int, ids: str, names: str = "ABC") -> list[Made]:
    """Make trades in the source's order; their times do not fall, many are equal, and no two prices are."""
    return list(_trades(luck, count, ids, names))


def _trades(luck: random.Random, count: int, ids: str, names: str) -> Iterator[Made]:
    time_ns = START_NS
    prices = luck.sample(range(1, 10**6), count)
    for number, cents in enumerate(prices):
        time_ns += luck.choice(_STEPS_MS) * 10**6 + luck.choice((0, 0, 0, 1))
        sent = IDS[ids](luck, number) if ids != "rising" else (number,)
        yield Made(time_ns, luck.choice(names), Decimal(cents) / 100, str(luck.randrange(1, 10**6)), sent, number)
