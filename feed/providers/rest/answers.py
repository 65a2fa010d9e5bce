"""What an answer of a provider says: rows, the next page, or that something is wrong after all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from feed.connection.answer import Answer, json_of, parsed
from feed.connection.errors import BrokenAnswerError
from feed.connection.http import Http, redacted, refusal, said_in
from feed.mapping.errors import MappingError
from feed.mapping.exact_json import text_of
from feed.mapping.paths import first_at
from feed.mapping.rows import rows_of
from feed.provider import Listed
from feed.providers.rest.delivered import RawRow
from feed.providers.rest.question import Asking, catalogue_question, question
from feed.providers.rest.settings import RestFeed

_OK = range(200, 300)
_STATUSES = range(300, 600)
_CODE_CHARACTERS = 40
_NAN = (
    "The answer holds NaN or Infinity, which JSON does not have. All other values are read; a row becomes a reject"
    " where the mapping leads to one of these."
)


@dataclass(frozen=True)
class Page:
    """One answer: its rows, and what to ask for next, None where that was all. notes: what else to know of it."""

    answer: Answer
    rows: Sequence[RawRow]
    following: Asking | None
    notes: Sequence[str] = ()


def ask(http: Http, settings: RestFeed, asking: Asking, key: str) -> Page:
    """Ask one question; raise QuestionError or MappingError, neither of which holds the key."""
    sent = question(settings, asking, key)
    answer = http.get(sent.url, sent.headers, key)
    return page_of(answer, settings, asking, key)


def page_of(answer: Answer, settings: RestFeed, asking: Asking, key: str) -> Page:
    """Read an answer; raise as `ask` does."""
    found, holds_nan = parsed(answer)
    code = _check_code(found, answer.host, settings, key)
    try:
        rows = rows_of(found, settings.rows, asking.instrument)
        following = _following(found, settings, asking)
    except MappingError as error:
        if code is not None:
            raise BrokenAnswerError(_unknown(found, answer.host, settings, key, code)) from None
        raise MappingError(redacted(f"{answer.host} answered, but not as the mapping says. {error}", key)) from None
    if code is not None and not rows:
        raise BrokenAnswerError(_unknown(found, answer.host, settings, key, code))
    notes = [_NAN] if holds_nan else []
    if code is not None:
        notes.append(
            f'The code "{code[:_CODE_CHARACTERS]}" counts as success, since there are rows; name it in "success".'
        )
    return Page(answer, rows, following, notes)


def listed(http: Http, settings: RestFeed, key: str) -> list[Listed]:
    """Ask for the catalogue, which the settings must have; raise as `ask` does."""
    catalogue = settings.catalogue
    assert catalogue is not None
    sent = catalogue_question(settings, key)
    answer = http.get(sent.url, sent.headers, key)
    found = json_of(answer)
    _check_code(found, answer.host, settings, key)
    entries = first_at(found, catalogue.rows)
    if not isinstance(entries, list):
        raise MappingError(f'{answer.host} has no list of instruments at "{catalogue.rows}".')
    return [
        Listed(name, str(first_at(one, catalogue.description) or "") if catalogue.description else "")
        for one in entries
        if isinstance(name := first_at(one, catalogue.instrument), str)
    ]


def _check_code(found: object, host: str, settings: RestFeed, key: str) -> str | None:
    """Raise what the status inside an answer means; return it where it means neither success nor failure."""
    code = text_of(first_at(found, settings.code)) if settings.code else None
    if code is None or code in settings.success:
        return None
    number = int(code) if code.isascii() and code.isdecimal() and len(code) < 6 else None
    if not settings.success and number is not None and (number in _OK or number == 0):
        return None
    if number is not None and number in _STATUSES:
        raise refusal(number, host, _said(found, settings, key))
    if settings.success:
        raise BrokenAnswerError(_unknown(found, host, settings, key, code))
    return code


def _unknown(found: object, host: str, settings: RestFeed, key: str, code: str) -> str:
    said = _said(found, settings, key)
    shown = f'{host} answered with the code "{code[:_CODE_CHARACTERS]}"{f" ({said})" if said else ""}'
    if settings.success:
        return redacted(f"{shown}; only {', '.join(settings.success)} is success.", key)
    return redacted(f'{shown} and no rows; correct what is asked for, or name the codes of success in "success".', key)


def _said(found: object, settings: RestFeed, key: str) -> str:
    said = first_at(found, settings.said) if settings.said else None
    return said_in(str(said).encode("utf-8", "backslashreplace"), key) if said else ""


def _following(found: object, settings: RestFeed, asking: Asking) -> Asking | None:
    pages = settings.pages
    if pages is None:
        return None
    there = first_at(found, pages.cursor or pages.url)
    if there is None or there == "" or isinstance(there, bool | list | dict):
        return None
    following = replace(asking, cursor=str(there)) if pages.cursor else replace(asking, url=str(there))
    return None if following == asking else following
