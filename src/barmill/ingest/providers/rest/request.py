"""One request of a REST feed: the settings with their placeholders filled in, and the content of the response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import httpx
import polars as pl

from barmill.ingest.connection.guard import parse_url
from barmill.ingest.connection.http import Http, HttpResponse, json_of, parse_json, refusal
from barmill.ingest.connection.provider import CatalogueEntry, ProviderError
from barmill.ingest.connection.reconnect import InvalidResponseError, KeyRefusedError
from barmill.ingest.connection.state import Phase
from barmill.ingest.mapping.paths import MappingError, first_at
from barmill.ingest.mapping.row_tables import InstrumentFilter, shown_names
from barmill.ingest.mapping.rows import rows_of
from barmill.ingest.providers.rest.delivered import Delivered, RawRow
from barmill.ingest.providers.rest.settings import KEY_PLACEHOLDERS, PLACEHOLDER, RestFeed
from barmill.platform.clock import NS_PER_MS, NS_PER_S
from barmill.platform.exact_json import text_of

_HIDDEN = "[key]"
_SUCCESS_STATUSES = range(200, 300)
_ERROR_STATUSES = range(300, 600)
_MAX_CODE_CHARACTERS = 40
_NAN_NOTE = (
    "The response contains NaN or Infinity, which are not valid JSON. All other values are read; a row is rejected"
    " if one of its mapped fields has such a value."
)


class RestRefusedError(ProviderError):
    """The provider rejects the key, or feeds may not reach this address; the message says what to do."""

    phase = Phase.REFUSED


class RestMappingError(ProviderError):
    """No response fits the mapping; correct the path named in the message."""

    phase = Phase.BROKEN


@dataclass(frozen=True)
class RequestSubject:
    """The subject of a request. since_ns: None for everything. cursor, url: of a next page that the provider named."""

    instruments: Sequence[str]
    since_ns: int | None = None
    cursor: str | None = None
    url: str | None = None

    @property
    def instrument(self) -> str | None:
        """Return the instrument if the request is about exactly one, otherwise None."""
        return self.instruments[0] if len(self.instruments) == 1 else None


@dataclass(frozen=True)
class HttpRequest:
    """The URL and headers to send."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """One response: its rows, and the request for the next page, or None. notes: further information."""

    response: HttpResponse
    rows: Sequence[RawRow]
    next_subject: RequestSubject | None
    notes: Sequence[str] = ()


def send_request(http: Http, settings: RestFeed, subject: RequestSubject, key: str) -> Page:
    """Send one request; raise RequestError or MappingError, whose messages never contain the key."""
    request = build_request(settings, subject, key)
    return page_of(http.get(request.url, request.headers, key), settings, subject)


def page_of(response: HttpResponse, settings: RestFeed, subject: RequestSubject) -> Page:
    """Parse a response; raise the same errors as `send_request`."""
    document, holds_nan = parse_json(response)
    code = _check_code(document, response, settings)
    try:
        rows = rows_of(document, settings.rows, subject.instrument)
        next_subject = _next_subject(document, settings, subject)
    except MappingError as error:
        if code is not None:
            raise InvalidResponseError(_code_error_text(document, response, settings, code)) from None
        problem = f"The response of {response.host} does not match the mapping. {error}"
        raise MappingError(response.without_key(problem)) from None
    if code is not None and not rows:
        raise InvalidResponseError(_code_error_text(document, response, settings, code))
    notes = [_NAN_NOTE] if holds_nan else []
    if code is not None:
        code_text = response.start_of(code, _MAX_CODE_CHARACTERS)
        notes.append(f'The code "{code_text}" counts as success, since there are rows; name it in "success".')
    return Page(response, rows, next_subject, notes)


def fetch_catalogue(http: Http, settings: RestFeed, key: str) -> list[CatalogueEntry]:
    """Request the catalogue, which the settings must define; raise the same errors as `send_request`."""
    catalogue = settings.catalogue
    assert catalogue is not None
    catalogue_settings = settings.model_copy(update={"path": catalogue.path, "query": catalogue.query})
    request = build_request(catalogue_settings, RequestSubject(()), key)
    response = http.get(request.url, request.headers, key)
    document = json_of(response)
    _check_code(document, response, settings)
    entries = first_at(document, catalogue.rows)
    if not isinstance(entries, list):
        raise MappingError(f'{response.host} has no list of instruments at "{catalogue.rows}".')
    return [
        CatalogueEntry(name, str(first_at(entry, catalogue.description) or "") if catalogue.description else "")
        for entry in entries
        if isinstance(name := first_at(entry, catalogue.instrument), str)
    ]


def build_request(settings: RestFeed, subject: RequestSubject, key: str) -> HttpRequest:
    """Return the request to send; raise KeyRefusedError if the key cannot be sent."""
    if settings.needs_key:
        _check_key(settings.placeholders, key)
    return _fill_request(settings, subject, key)


def request_text(settings: RestFeed, subject: RequestSubject) -> str:
    """Return the request as text for users, without the key."""
    request = _fill_request(settings, subject, f"{_HIDDEN}:{_HIDDEN}" if "key_id" in settings.placeholders else _HIDDEN)
    address = request.url.replace(quote(_HIDDEN, safe=""), _HIDDEN)
    return "\n".join([f"GET {address}", *(f"{name}: {value}" for name, value in request.headers.items())])


def _fill_request(settings: RestFeed, subject: RequestSubject, key: str) -> HttpRequest:
    values = {**_since_texts(subject.since_ns), **_key_values(key), "cursor": subject.cursor}
    values["instrument"] = subject.instrument
    values["instruments"] = settings.separator.join(subject.instruments) or None
    query = _fill_placeholders(settings.query, values)
    headers = _fill_placeholders(settings.headers, values)
    if subject.url is not None:
        secret_parameters = {
            name: query[name]
            for name, text in settings.query.items()
            if KEY_PLACEHOLDERS & set(PLACEHOLDER.findall(text))
        }
        return HttpRequest(_next_page_url(settings, subject.url, secret_parameters), headers)
    path = PLACEHOLDER.sub(lambda match: quote(values.get(match[1]) or "", safe=""), settings.path)
    address = f"{settings.base_url}/{path.lstrip('/')}" if path else settings.base_url
    return HttpRequest(f"{address}?{urlencode(query, quote_via=quote)}" if query else address, headers)


def _fill_placeholders(texts: Mapping[str, str], values: Mapping[str, str | None]) -> dict[str, str]:
    """Return the texts with their placeholders filled in; omit texts with a placeholder that has no value."""
    return {
        name: PLACEHOLDER.sub(lambda match: values[match[1]] or "", text)
        for name, text in texts.items()
        if all(values.get(placeholder) for placeholder in PLACEHOLDER.findall(text))
    }


def _next_page_url(settings: RestFeed, url: str, secret_parameters: Mapping[str, str]) -> str:
    """Return the URL of a page that the provider named, with the key, which may only go to the provider's own host."""
    base = parse_url(settings.base_url)
    try:
        next_url = base.join(url)
    except httpx.InvalidURL:
        raise InvalidResponseError(f"{base.host} names a next page with an invalid address.") from None
    if (next_url.scheme, next_url.host, next_url.port) != (base.scheme, base.host, base.port):
        raise InvalidResponseError(
            f"{base.host} names a next page at another host, {next_url.host}; the key is not sent there."
        )
    return str(next_url.copy_merge_params(dict(secret_parameters)))


def _since_texts(since_ns: int | None) -> dict[str, str | None]:
    if since_ns is None:
        return dict.fromkeys(("since_s", "since_ms", "since_ns", "since_iso", "since_utc"))
    seconds, rest_ns = divmod(since_ns, NS_PER_S)
    utc = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "since_s": str(seconds),
        "since_ms": str(since_ns // NS_PER_MS),
        "since_ns": str(since_ns),
        "since_iso": f"{utc}.{rest_ns:09d}Z",
        "since_utc": utc,
    }


def _key_values(key: str) -> dict[str, str | None]:
    key_id, _, secret = key.partition(":")
    return {"key": key, "key_id": key_id, "key_secret": secret}


def _check_key(placeholders: frozenset[str], key: str) -> None:
    # Checked here because errors of the lower layers would quote the key.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise KeyRefusedError(
            "The feed has no key, or its key contains characters that cannot be sent; store it again."
        )
    if "key_secret" in placeholders and not all(key.partition(":")):
        raise KeyRefusedError("This provider's key has two parts; store them as ID:SECRET, separated by a colon.")


def _check_code(document: object, response: HttpResponse, settings: RestFeed) -> str | None:
    """Raise the error for a status code inside a response; return the code if it is neither success nor failure.

    Return None for success, or if there is no code.
    """
    code = text_of(first_at(document, settings.code)) if settings.code else None
    if code is None or code in settings.success:
        return None
    number = int(code) if code.isascii() and code.isdecimal() and len(code) < 6 else None
    if not settings.success and number is not None and (number in _SUCCESS_STATUSES or number == 0):
        return None
    if number is not None and number in _ERROR_STATUSES:
        raise refusal(number, response.host, _provider_message(document, response, settings))
    if settings.success:
        raise InvalidResponseError(_code_error_text(document, response, settings, code))
    return code


def _code_error_text(document: object, response: HttpResponse, settings: RestFeed, code: str) -> str:
    message = _provider_message(document, response, settings)
    sentence = f'{response.host} responded with the code "{response.start_of(code, _MAX_CODE_CHARACTERS)}"'
    sentence += f" ({message})" if message else ""
    if settings.success:
        return f"{sentence}; only {', '.join(settings.success)} means success."
    return f'{sentence} and no rows; correct the request, or list the codes for success in "success".'


def _provider_message(document: object, response: HttpResponse, settings: RestFeed) -> str:
    message = first_at(document, settings.said) if settings.said else None
    return response.start_of(str(message).encode("utf-8", "backslashreplace").decode()) if message else ""


def _next_subject(document: object, settings: RestFeed, subject: RequestSubject) -> RequestSubject | None:
    pages = settings.pages
    if pages is None:
        return None
    next_page = first_at(document, pages.cursor or pages.url)
    if next_page is None or next_page == "" or isinstance(next_page, bool | list | dict):
        return None
    next_subject = replace(subject, cursor=str(next_page)) if pages.cursor else replace(subject, url=str(next_page))
    return None if next_subject == subject else next_subject


@dataclass(frozen=True)
class RowOutcomes:
    """The outcome of a response's rows; the counts add up to the number of rows.

    new: rows that become ticks or rejects when they are checked, oldest first. duplicates: delivered before. held: too
    recent, left for a later poll. not_selected: of instruments that the feed does not read; rejects holds the first row
    of each of these. foreign: the instruments in the response, if it has rows but none of an instrument that is read.
    """

    new: list[RawRow]
    duplicates: int
    held: int
    not_selected: int
    rejects: pl.DataFrame
    foreign: frozenset[str] = frozenset()


def delivered_of(settings: RestFeed, cursor: str | None = None) -> Delivered:
    """Return the record of delivered rows up to a cursor.

    Responses with the newest rows are usually newest first, and responses since a given time oldest first. This
    assumption applies only until the times or ids in a response show the order.
    """
    return Delivered(
        round(settings.overlap_s * NS_PER_S),
        cursor,
        order=settings.rows.order,
        newest_first_if_unknown=not settings.has_start_time,
    )


def row_outcomes(
    delivered: Delivered,
    instrument_filter: InstrumentFilter,
    rows: Sequence[RawRow],
    selected: frozenset[str],
    future_ns: int,
    held_ns: int | None,
) -> RowOutcomes:
    """Return the outcome of each row; selected: the instruments to read, empty for all. See Delivered.take."""
    selected_rows, rejects = instrument_filter.split(delivered.oldest_first(rows), selected)
    new_rows = delivered.take(selected_rows, future_ns, held_ns)
    names = frozenset(str(row.get("instrument")) for row in rows) if rows and not selected_rows else frozenset[str]()
    return RowOutcomes(new_rows.new, new_rows.duplicates, new_rows.held, len(rows) - len(selected_rows), rejects, names)


def foreign_names_text(names: frozenset[str], group: Sequence[str]) -> str:
    """Return a message about a response that contains only other instruments than requested."""
    return (
        f"The response is only about {shown_names(names)}, but {shown_names(group)} was requested; enable the name as"
        ' the provider spells it, or map it by "names" in the mapping.'
    )
