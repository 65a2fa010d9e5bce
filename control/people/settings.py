"""How people sign in to one home: under which address, for how long, and with which OIDC provider, if any."""

from ipaddress import ip_network
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from control.home import Home
from control.machine.ports import DEFAULT_APP_PORT, LOOPBACK, read_ports
from control.people.roles import Role
from control.settings_file import SettingsFile

# A node's range of pods in most Kubernetes clusters; who needs more has visitors or other programs in it.
_MOST_PROXY_ADDRESSES = 256


class OidcSettings(BaseModel):
    """An OpenID Connect provider that people may sign in with.

    issuer: its address; the rest of it is found from there. Barmill is reached back at /sign-in/oidc/callback.
    client_secret_key, client_secret_file: where the client's secret is, a name in the key store or a file; one of them.
    label: what people call the provider. name_claim: the claim that becomes the account's name.
    role_claim, roles: the claim whose value, or values, give the role; who has none of them is not let in.
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
    def _is_encrypted_or_near(cls, value: str) -> str:
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
            raise ValueError("give client_secret_key or client_secret_file, one of them")
        return self


class SignInSettings(SettingsFile):
    """Settings of sign-in, read from sign-in.json in the home; without that file, this machine only.

    public_url: how others reach the app, through a proxy that stands on this machine, such as
    "https://barmill.example.com"; the proxy says in X-Forwarded-For whom it speaks for.
    proxy: where that proxy connects from, when it is another machine or container: an address, or a separate network
    of at most 256 addresses. Visitors have the last address in its X-Forwarded-For, which is the one that it saw.
    idle_hours, session_days: a session ends after so long without use, and in any case.
    oidc: a provider that people may sign in with, besides passwords.
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
            raise ValueError("is no address like https://barmill.example.com, without a path")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("proxy")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        count = ip_network(value).num_addresses  # its error says what is wrong
        if count > _MOST_PROXY_ADDRESSES:
            raise ValueError(
                f"names {count:,} addresses, and each of them could speak for any visitor; name the address of the"
                f" proxy, or a network of at most {_MOST_PROXY_ADDRESSES} addresses with nothing else in it"
            )
        return value

    @property
    def trusted_proxy(self) -> str | None:
        """Return the address or network of the proxy that may say for whom it speaks, or None where there is none."""
        return self.proxy if self.public_url else None

    @property
    def idle_ms(self) -> int:
        """Return how long a session lives without use."""
        return round(self.idle_hours * 3_600_000)

    @property
    def session_ms(self) -> int:
        """Return how long a session lives at most."""
        return round(self.session_days * 86_400_000)


def app_address(home: Home, path: str = "") -> str:
    """Return the address of the app, or of a path in it, as people open it."""
    ports = read_ports(home)
    local = f"http://{LOOPBACK}:{ports.app if ports else DEFAULT_APP_PORT}"
    return (SignInSettings.read(home).public_url or local) + path
