"""Which addresses a feed may reach."""

import ipaddress
import socket
from contextlib import closing

import pytest
from pydantic import ValidationError

from barmill.ingest.connection.guard import FeedsAccess, Guard, is_public
from barmill.ingest.connection.reconnect import AddressRefusedError, UnreachableError
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError

INSIDE = (
    "127.0.0.1 127.8.9.10 10.0.0.1 172.16.3.4 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200 0.0.0.0"
    " 224.0.0.1 240.0.0.1 255.255.255.255 192.0.2.1 198.18.0.1 168.63.129.16"
    " :: ::1 fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 100::1 4000::1"
    " ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1:: 2001:0:7f00:1::"
)
OUTSIDE = "1.1.1.1 93.184.216.34 2606:4700:4700::1111 64:ff9b::101:101 ::ffff:1.1.1.1 2002:101:101::1"


@pytest.mark.parametrize("ip", INSIDE.split())
def test_no_feed_reaches_an_address_inside(ip: str) -> None:
    assert not is_public(ipaddress.ip_address(ip))
    with pytest.raises(AddressRefusedError, match="not a public address"):
        Guard(lookup=lambda *_: [ip]).resolve("https://feed.example")


@pytest.mark.parametrize("ip", OUTSIDE.split())
def test_the_public_internet_is_reached_over_tls_only(ip: str) -> None:
    guard = Guard(lookup=lambda *_: [ip])
    address = guard.resolve("wss://feed.example/stream")
    assert (address.ips, address.port, address.encrypted) == ((str(ipaddress.ip_address(ip)),), 443, True)
    for plain in ("http://feed.example", "ws://feed.example:443"):
        with pytest.raises(AddressRefusedError, match="would not be encrypted"):
            guard.resolve(plain)


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_other_ways_to_write_an_address_inside_lead_there_too_and_are_refused(host: str) -> None:
    with pytest.raises((AddressRefusedError, UnreachableError)):
        Guard().resolve(f"https://{host}/")


def test_a_name_with_one_address_inside_is_refused_as_a_whole() -> None:
    with pytest.raises(AddressRefusedError, match=r"resolves to 10\.0\.0\.1"):
        Guard(lookup=lambda *_: ["1.1.1.1", "10.0.0.1"]).resolve("https://feed.example")


@pytest.mark.parametrize("allowed", ["10.0.0.0/8", "10.0.0.1", "Feed.Example"])
def test_what_an_admin_allows_is_reached_also_without_tls(allowed: str) -> None:
    guard = Guard(FeedsAccess(allow=(allowed,)), lookup=lambda *_: ["10.0.0.1"])
    assert guard.resolve("http://feed.example:8080").ips == ("10.0.0.1",)


def test_what_is_allowed_opens_nothing_else() -> None:
    guard = Guard(FeedsAccess(allow=("10.0.0.0/8", "other.example")), lookup=lambda *_: ["127.0.0.1"])
    with pytest.raises(AddressRefusedError, match=r'feeds-access\.json: {"allow": \["127\.0\.0\.1"\]}'):
        guard.resolve("https://feed.example")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://feed.example", "must begin with https:// or wss://"),
        ("feed.example", "must begin with https:// or wss://"),
        ("file:///etc/passwd", "must begin with https:// or wss://"),
        ("https://", "must begin with https:// or wss://"),
        ("https://me:secret@feed.example", "API key"),
        ("https://feed.example:port", "is invalid; write it like"),
        ("https://a\x00b", "is invalid; write it like"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(AddressRefusedError, match=said) as refused:
        Guard(lookup=lambda *_: ["1.1.1.1"]).resolve(url)
    assert "secret" not in str(refused.value)


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_found() -> None:
    answers = iter([["127.0.0.1"], ["203.0.113.9"]])
    guard = Guard(FeedsAccess(allow=("127.0.0.1",)), lookup=lambda *_: next(answers))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = guard.resolve(f"ws://feed.example:{server.getsockname()[1]}")
        with closing(address.connect()) as connection:
            assert connection.getpeername() == server.getsockname()
    assert next(answers) == ["203.0.113.9"]


def test_a_name_that_nobody_has_says_so() -> None:
    with pytest.raises(UnreachableError, match=r"The host unknown\.invalid was not found"):
        Guard().resolve("https://unknown.invalid")


def test_access_is_a_file_of_the_home(home: Home) -> None:
    assert FeedsAccess.read(home).allow == ()
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.0/8"]}')
    assert Guard(FeedsAccess.read(home)).resolve("http://127.0.0.1:1").ips == ("127.0.0.1",)
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.1/8"]}')
    with pytest.raises(SettingsError, match="is not a network"):
        FeedsAccess.read(home)
    with pytest.raises(ValidationError):
        FeedsAccess(allow=("10/8/8",))
