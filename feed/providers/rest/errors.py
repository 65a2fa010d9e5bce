"""What ends the reading of a REST feed until somebody mends it.

ProviderError
├── RestRefusedError    the key, or the address, is not allowed
└── RestMappingError    the provider answers, but no answer is as the mapping says
"""

from feed.connection.state import Phase
from feed.provider import ProviderError


class RestRefusedError(ProviderError):
    """The provider refuses the key, or no feed may go to this address; the sentence says what to do."""

    phase = Phase.REFUSED


class RestMappingError(ProviderError):
    """No answer fits the mapping; correct the path that the sentence names."""

    phase = Phase.BROKEN
