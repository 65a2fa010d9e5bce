"""How a file of ticks cannot be read."""

from feed.provider import ProviderError


class ReplayFileError(ProviderError):
    """The file cannot be read at all; the sentence says why and what to do."""


class DamagedFileError(Exception):
    """The data is damaged or ends too early; what came before is good. The text says where."""
