"""Which end of an answer is the newest, as far as its rows tell. Pure."""

import re
from collections.abc import Iterable, Sequence

_COUNTED = re.compile(r"(.*?)(\d{1,30})")


def newest_first(
    times_ns: Sequence[int | None], instruments: Sequence[object], ids: Sequence[str | None]
) -> bool | None:
    """Tell whether the rows of an answer are newest first; None where they do not tell.

    Times decide: whether those of an instrument fall or rise from row to row. Where all are equal, ids decide that end
    in a number which falls or rises behind the same beginning.
    """
    by_time = _falls(zip(instruments, times_ns, strict=True))
    if by_time is not None:
        return by_time
    counted = [_COUNTED.fullmatch(one) if one is not None else None for one in ids]
    numbers = (
        ((name, found[1]), int(found[2]) if found else None) if found else ((name, ""), None)
        for name, found in zip(instruments, counted, strict=True)
    )
    return _falls(numbers)


def _falls(values: Iterable[tuple[object, int | None]]) -> bool | None:
    """Tell whether values fall more often than they rise within their group; None where neither."""
    last: dict[object, int] = {}
    balance = 0
    for group, value in values:
        if value is None:
            continue
        before = last.get(group, value)
        balance += (value < before) - (value > before)
        last[group] = value
    return None if balance == 0 else balance > 0
