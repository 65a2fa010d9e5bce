"""What can go wrong with picking instruments, each in one sentence that says what to do next."""

from collections.abc import Sequence

from control.errors import ControlError
from control.instruments.report import Line


class InstrumentsError(ControlError):
    """Instruments cannot be picked or asked for this way; nothing was changed."""


class NotPickableError(InstrumentsError):
    """The provider delivers what it has; there is nothing to pick."""


class NoCatalogueError(InstrumentsError):
    """The provider's catalogue was never fetched; start Barmill, which fetches it."""


class UnknownInstrumentsError(InstrumentsError):
    """Some of the names are no instruments of the provider; report says which, line by line."""

    def __init__(self, sentence: str, report: Sequence[Line]) -> None:
        super().__init__(sentence)
        self.report = tuple(report)
