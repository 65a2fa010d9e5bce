"""What a ready-made feed is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadyMade:
    """Settings that somebody has worked out already.

    settings: JSON of this kind. needs_key: nothing comes without a key. note: what to know before adding it.
    """

    label: str
    kind: str
    settings: str
    needs_key: bool = False
    note: str = ""
