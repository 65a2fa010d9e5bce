"""How a mapping fails to fit."""


class MappingError(ValueError):
    """The answer does not hold what the mapping says; the sentence names the path, what is there and what is needed."""
