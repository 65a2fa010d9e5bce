"""Questions over HTTP to servers that mean no good, and to some that do."""

import gzip
import json
import resource
import ssl
import threading
import zlib
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from barmill.ingest.connection.guard import FeedsAccess, Guard, tls_context
from barmill.ingest.connection.http import Http, Limits, json_of, redact_key
from barmill.ingest.connection.reconnect import (
    AddressRefusedError,
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from tests.support.canary import canary, leaks
from tests.support.exchanges.rest_server import Asked, Reply, always, near_guard, standing_in

MB = 2**20


def ask(reply: Reply, **limits: float) -> object:
    """Ask a server that gives this reply to everything, and read the answer."""
    with standing_in(always(reply)) as server, Http(near_guard(), Limits(**limits)) as http:  # type: ignore[arg-type]
        return json_of(http.get(f"{server.url}/prices", key="a-key"))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_an_answer_comes_with_its_type_its_time_and_the_providers_clock() -> None:
    body = gzip.compress(b'{"price": 1.5}')
    reply = Reply(body, headers={"Content-Encoding": "gzip"}, date_s=1_800_000_000)
    with standing_in(always(reply)) as server, Http(near_guard()) as http:
        answer = http.get(f"{server.url}/prices?symbol=A%20B", {"X-Key": "secret"})
        http.get(server.url)
    assert json_of(answer) == {"price": 1.5}
    assert (answer.content_type, answer.server_ms) == ("application/json", 1_800_000_000_000)
    assert answer.skew_ms == pytest.approx(1_800_000_000_500 - answer.requested_ms, abs=10_000)
    assert (server.asked[0].path, server.asked[0].query, server.asked[0].headers["x-key"]) == (
        "/prices",
        {"symbol": "A B"},
        "secret",
    )


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (429, LimitedError, "received too many requests"),
        (418, LimitedError, "received too many requests"),
        (401, KeyRefusedError, "rejects the key"),
        (403, KeyRefusedError, "rejects the key"),
        (404, NotFoundError, "does not have what was requested"),
        (500, ServerError, "internal error: status 500"),
        (503, ServerError, "internal error"),
    ],
)
def test_refusals_are_told_apart(status: int, kind: type[RequestError], said: str) -> None:
    with pytest.raises(kind, match=said) as refused:
        ask(Reply({"message": "No, a-key\nis bad"}, status))
    assert "No, [hidden] is bad" in str(refused.value) or "No, a-key\\nis bad" in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        ({"Retry-After": "17"}, 17, 17),
        ({"Retry-After": formatdate(None, usegmt=True)}, 0, 0),
        ({"Retry-After": "999999999"}, 3_600, 3_600),
        ({"X-RateLimit-Reset": "1"}, 0, 0),
    ],
)
def test_the_provider_says_how_long_to_wait(headers: dict[str, str], least_s: float, most_s: float) -> None:
    with pytest.raises(LimitedError) as limited:
        ask(Reply(status=429, headers=headers))
    assert limited.value.retry_after_s is not None
    assert least_s <= limited.value.retry_after_s <= most_s


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "-1"}])
def test_a_provider_that_does_not_say_how_long_is_asked_after_a_pause_of_ours(headers: dict[str, str]) -> None:
    with pytest.raises(LimitedError) as limited:
        ask(Reply(status=429, headers=headers))
    assert limited.value.retry_after_s is None


def test_ten_gigabytes_are_cut_at_the_limit() -> None:
    def ten_gigabytes() -> Iterator[bytes]:
        piece = b"1," * (MB // 2)
        for _ in range(10 * 1024):
            yield piece

    before_mb = peak_mb()
    reply = Reply(ten_gigabytes())
    with standing_in(always(reply)) as server, Http(near_guard()) as http:
        with pytest.raises(InvalidResponseError, match="sent more than 8 MB; the rest was not read"):
            http.get(server.url)
        assert server.sent_bytes < 40 * MB
    assert peak_mb() - before_mb < 100


def test_a_gzip_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(MB)) for _ in range(150)) + packer.flush()
    assert len(bomb) < MB
    before_mb = peak_mb()
    with pytest.raises(InvalidResponseError, match="more than 8 MB"):
        ask(Reply(bomb, headers={"Content-Encoding": "gzip"}))
    assert peak_mb() - before_mb < 75


def test_an_endless_slow_stream_ends_with_the_time_for_the_whole_question() -> None:
    over = threading.Event()

    def drops() -> Iterator[bytes]:
        while not over.wait(0.02):
            yield b" "

    try:
        with pytest.raises(UnreachableError, match=r"did not respond within 0\.3 s"):
            ask(Reply(drops()), total_s=0.3)
    finally:
        over.set()


def test_a_server_that_never_ends_its_headers_is_left_in_time() -> None:
    over = threading.Event()

    def answers(_: Asked) -> Reply:
        over.wait(30)
        return Reply()

    try:
        with standing_in(answers) as server, Http(near_guard(), Limits(total_s=0.2)) as http:
            with pytest.raises(UnreachableError, match="did not respond"):
                http.get(server.url)
            over.set()
    finally:
        over.set()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>Sign in</html>", "text/html instead of JSON; check the base URL and the path"),
        (b'{"price": ', "instead of JSON"),
        (b"", "instead of JSON"),
        (b"[" * 500_000 + b"]" * 500_000, "instead of JSON"),
        (b"[" * 500 + b"]" * 500, "nested more than 64"),
        (b"[" + b"{}," * 999_999 + b"{}]", "more than 1,000,000 values"),
    ],
)
def test_what_is_no_usable_json_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(InvalidResponseError, match=said):
        ask(Reply(body, headers={"Content-Type": "text/html; charset=utf-8"}))


def test_json_as_deep_as_allowed_is_read() -> None:
    assert ask(Reply(b"[" * 64 + b"1" + b"]" * 64)) is not None


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip"])
def test_a_coding_that_is_another_than_it_says_or_was_asked_for_is_refused(coding: str) -> None:
    with pytest.raises(InvalidResponseError):
        ask(Reply(b"{}", headers={"Content-Encoding": coding}))


def test_a_redirect_on_the_same_host_is_followed_with_the_key() -> None:
    def answers(asked: Asked) -> Reply:
        return Reply({"ok": 1}) if asked.path == "/new" else Reply(status=301, headers={"Location": "/new"})

    with standing_in(answers) as server, Http(near_guard()) as http:
        assert json_of(http.get(f"{server.url}/old", {"X-Key": "secret"})) == {"ok": 1}
    assert server.asked[1].headers["x-key"] == "secret"


def test_another_host_never_gets_the_key() -> None:
    with standing_in(always(Reply({"ok": 1}))) as other:
        elsewhere = Reply(status=302, headers={"Location": f"{other.url}/taken"})
        with standing_in(always(elsewhere)) as server, Http(near_guard()) as http:
            http.get(server.url, {"X-Key": "secret", "Authorization": "Bearer secret"})
    assert not {"x-key", "authorization"} & other.asked[0].headers.keys()


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://localhost:{port}/inside", AddressRefusedError),
        ("http://169.254.169.254/latest/meta-data", AddressRefusedError),
        ("https://127.0.0.1:{port}/", InvalidResponseError),
        ("file:///etc/passwd", InvalidResponseError),
        ("/again", InvalidResponseError),
        ("", InvalidResponseError),
    ],
)
def test_a_redirect_leads_nowhere_a_feed_may_not_go(location: str, kind: type[RequestError]) -> None:
    guard = Guard(FeedsAccess(allow=("127.0.0.1/32",)), lookup=_only_127_0_0_1_by_number)
    with standing_in(always(Reply())) as server, Http(guard) as http:
        port = server.url.rpartition(":")[2]
        server.answers = always(Reply(status=307, headers={"Location": location.format(port=port)}))
        with pytest.raises(kind):
            http.get(server.url)
        assert {asked.path for asked in server.asked} <= {"/", "/again"}


def _only_127_0_0_1_by_number(host: str, _port: int) -> list[str]:
    return ["127.0.0.2"] if host == "localhost" else [host]


def test_a_name_that_leads_to_this_machine_is_refused_before_a_byte_is_sent() -> None:
    with standing_in(always(Reply({}))) as server, Http(Guard()) as http:
        with pytest.raises(AddressRefusedError, match=r"localhost resolves to (127\.0\.0\.1|::1)"):
            http.get(server.url.replace("127.0.0.1", "localhost"))
        assert server.asked == []


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    looked_up = []

    def rebinding(host: str, _port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["127.0.0.9"]

    with standing_in(always(Reply({}))) as server, Http(Guard(FeedsAccess(allow=("127.0.0.1",)), rebinding)) as http:
        http.get(server.url.replace("127.0.0.1", "feed.example"))
        assert server.asked[0].headers["host"].startswith("feed.example:")
    assert looked_up == ["feed.example"]


def test_nothing_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(Reply({"ok": 1})) == {"ok": 1}


def test_a_server_without_a_trusted_certificate_gets_nothing() -> None:
    with standing_in(always(Reply({}))) as server, Http(near_guard()) as http:
        with pytest.raises(UnreachableError):
            http.get(server.url.replace("http:", "https:"))
        assert server.asked == []


def test_a_host_where_nothing_listens_says_so() -> None:
    with Http(near_guard()) as http, pytest.raises(UnreachableError, match="accepts no connection"):
        http.get("http://127.0.0.1:1")


@pytest.mark.parametrize("status", [200, 301, 400, 401, 429, 500])
def test_no_error_holds_the_key(status: int) -> None:
    secret = canary()
    headers = {"Location": f"ftp://{secret}", "Content-Type": f"text/{secret}"}

    def answers(asked: Asked) -> Reply:
        said = f"what is {asked.headers['x-key']}? {json.dumps(asked.headers)}"
        return Reply(said.encode(), status, headers)

    with standing_in(answers) as server, Http(near_guard()) as http:
        with pytest.raises(RequestError) as failed:
            json_of(http.get(server.url, {"X-Key": secret}, secret))
        assert not leaks(secret, str(failed.value), repr(failed.value))


def test_a_key_that_no_header_can_hold_is_refused_without_repeating_it() -> None:
    for key in ("two\nlines", "snow☃man"):
        with standing_in(always(Reply({}))) as server, Http(near_guard()) as http:
            with pytest.raises(KeyRefusedError, match="characters that cannot be sent") as refused:
                http.get(server.url, {"X-Key": key}, key)
            assert key not in str(refused.value)


def test_both_parts_of_a_key_are_hidden_and_short_words_are_not() -> None:
    assert redact_key("id PK123456 and S3CR3T99, and the whole PK123456:S3CR3T99", "PK123456:S3CR3T99") == (
        "id [hidden] and [hidden], and the whole [hidden]"
    )
    assert redact_key("nothing to hide", "") == "nothing to hide"


def test_tls_is_checked_against_authorities_that_no_setting_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    context = tls_context.__wrapped__()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
