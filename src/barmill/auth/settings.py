"""Settings of sign-in: the public address, the duration of sessions, and an optional OIDC provider."""

from ipaddress import ip_network
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from barmill.audit.roles import Role
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR
from barmill.platform.home import Home
from barmill.platform.ports import DEFAULT_APP_PORT, LOOPBACK, read_ports
from barmill.platform.settings_file import SettingsFile

# A node's pod range in most Kubernetes clusters. Larger networks may contain visitors or other programs.
_MAX_PROXY_ADDRESSES = 256


class OidcSettings(BaseModel):
    """An OpenID Connect provider for sign-in.

    issuer: its address, from which its endpoints are discovered. It redirects to /sign-in/oidc/callback.
    client_secret_key, client_secret_file: the client's secret, as a name in the key store or a file; exactly one of
    them.
    label: the provider's name for users. name_claim: the claim that becomes the account's name.
    role_claim, roles: the claim whose value or values select the role; without a match, sign-in is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    client_id: str
    client_secret_key: str | None = None
    client_secret_file: Path | None = None
    label: str = "your organisation"
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: dict[str, Role]

    @field_validator("issuer")
    @classmethod
    def _is_encrypted_or_loopback(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" and (parts.scheme, parts.hostname) not in {
            ("http", LOOPBACK),
            ("http", "localhost"),
        }:
            raise ValueError("must begin with https://")
        return value

    @model_validator(mode="after")
    def _has_one_secret(self) -> Self:
        if (self.client_secret_key is None) == (self.client_secret_file is None):
            raise ValueError("give either client_secret_key or client_secret_file")
        return self


class SignInSettings(SettingsFile):
    """Settings of sign-in, read from sign-in.json in the home. Without that file, only this machine has access.

    public_url: the app's address for others, through a proxy on this machine, such as "https://barmill.example.com".
    The proxy gives the visitor's address in X-Forwarded-For.
    proxy: the source address of that proxy, if it is another machine or container: an address, or a separate network of
    at most 256 addresses. The visitor is the last address in its X-Forwarded-For, which is the one that the proxy saw.
    idle_hours, session_days: a session ends after this time without use, and after this total time.
    oidc: a provider for sign-in, in addition to passwords.
    """

    file_name = "sign-in.json"

    public_url: str | None = None
    proxy: str = LOOPBACK
    idle_hours: float = Field(default=8, gt=0)
    session_days: float = Field(default=7, gt=0)
    oidc: OidcSettings | None = None

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("must be an address such as https://barmill.example.com, without a path")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("proxy")
    @classmethod
    def _is_small_network(cls, value: str) -> str:
        count = ip_network(value).num_addresses  # its error says what is wrong
        if count > _MAX_PROXY_ADDRESSES:
            raise ValueError(
                f"contains {count:,} addresses, and each of them could claim any visitor's address; give the address of"
                f" the proxy, or a network of at most {_MAX_PROXY_ADDRESSES} addresses with no other machine in it"
            )
        return value

    @property
    def trusted_proxy(self) -> str | None:
        """Return the address or network of the trusted proxy, or None if there is none."""
        return self.proxy if self.public_url else None

    @property
    def idle_ms(self) -> int:
        """Return the time in ms after which an unused session ends."""
        return round(self.idle_hours * MS_PER_HOUR)

    @property
    def session_ms(self) -> int:
        """Return the maximum duration of a session in ms."""
        return round(self.session_days * MS_PER_DAY)


def app_address(home: Home, path: str = "") -> str:
    """Return the URL of the app, or of a path in it, as users open it."""
    ports = read_ports(home)
    local = f"http://{LOOPBACK}:{ports.app if ports else DEFAULT_APP_PORT}"
    return (SignInSettings.read(home).public_url or local) + path
