"""How a question to a provider fails; each kind calls for something else.

QuestionError               one sentence that says what to do, and never holds a key
├── AddressRefusedError     the address is one that no feed may reach; an admin allows it, or corrects it
├── UnreachableError        nothing came, or it broke off; usually resolves itself
├── ServerError             the provider has trouble of its own (5xx); usually resolves itself
├── LimitedError            it was asked too often; ask again after `retry_after_s`
├── KeyRefusedError         the key, or what was asked for with it, is not allowed (401, 403)
├── NotFoundError           it does not know what it was asked for (400, 404, 422): an instrument or the path is wrong
└── BrokenAnswerError       it answered, but with something that cannot be used
"""


class QuestionError(Exception):
    """A question to a provider failed; the message is one sentence without any key.

    passes: the same question may well be answered after a while.
    """

    passes = False


class AddressRefusedError(QuestionError):
    """No feed may reach this address; correct it, or have an admin allow it."""


class UnreachableError(QuestionError):
    """Nothing came, or it broke off; ask again after a while."""

    passes = True


class ServerError(QuestionError):
    """The provider has trouble of its own; ask again after a while."""

    passes = True


class LimitedError(QuestionError):
    """The provider was asked too often; ask again after `retry_after_s`, or, if it is None, after a while."""

    passes = True

    def __init__(self, sentence: str, retry_after_s: float | None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class KeyRefusedError(QuestionError):
    """The key, or what was asked for with it, is not allowed; store another one."""


class NotFoundError(QuestionError):
    """The provider does not know what it was asked for; correct the instrument, the path or the query."""


class BrokenAnswerError(QuestionError):
    """The answer cannot be used; the sentence says why."""
