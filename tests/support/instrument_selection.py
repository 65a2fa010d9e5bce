"""Helpers of test_instrument_selection.py that other tests use too."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from barmill.ingest.connection.provider import Batch, CatalogueEntry, ProviderError


@dataclass
class Offering:
    """A provider that only has a catalogue, or a reason why not."""

    offers: list[str] = field(default_factory=lambda: ["AAA", "BBB"])
    problem: str = ""
    asked: int = 0
    name: str = "market"
    live: bool = True

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        return iter(())

    def catalogue(self) -> Sequence[CatalogueEntry]:
        self.asked += 1
        if self.problem:
            raise ProviderError(self.problem)
        return [CatalogueEntry(name) for name in self.offers]
