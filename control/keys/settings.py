"""Where the key store's own keys come from: settings in the environment of the processes that open it.

BARMILL_KEK                key-encryption keys, each 32 bytes in base64, with commas between: the first encrypts
BARMILL_KEK_FILE           file that holds the same, where the variable itself is not wanted
BARMILL_TRANSIT_KEY        name of the transit key that encrypts, in OpenBao or Vault
BARMILL_TRANSIT_MOUNT      where the transit engine is mounted (transit)
BARMILL_VAULT_ADDR         address of OpenBao or Vault, such as https://vault.example.org:8200
BARMILL_VAULT_TOKEN_FILE   file that holds the token, read anew at each use, so that an agent may renew it
BARMILL_VAULT_TOKEN        the token itself, where there is no such file
BARMILL_VAULT_NAMESPACE    namespace, where there are any
BARMILL_VAULT_CACERT       certificate file of the authority that signed the server's certificate, where it is your own
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from control.keys.errors import KekError, VaultError
from control.secret_file import read_secret_file

KEK_VARIABLE = "BARMILL_KEK"
KEK_FILE_VARIABLE = "BARMILL_KEK_FILE"
ADDRESS_VARIABLE = "BARMILL_VAULT_ADDR"
TOKEN_VARIABLE = "BARMILL_VAULT_TOKEN"
TOKEN_FILE_VARIABLE = "BARMILL_VAULT_TOKEN_FILE"
TRANSIT_KEY_VARIABLE = "BARMILL_TRANSIT_KEY"
TRANSIT_MOUNT_VARIABLE = "BARMILL_TRANSIT_MOUNT"
NAMESPACE_VARIABLE = "BARMILL_VAULT_NAMESPACE"
CA_FILE_VARIABLE = "BARMILL_VAULT_CACERT"
# What opens the key store: only for the app, the feed and the command line.
SECRET_VARIABLES = (KEK_VARIABLE, KEK_FILE_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)
ALL_VARIABLES = (
    *SECRET_VARIABLES,
    *(ADDRESS_VARIABLE, NAMESPACE_VARIABLE, CA_FILE_VARIABLE, TRANSIT_KEY_VARIABLE, TRANSIT_MOUNT_VARIABLE),
)

_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def kek_texts() -> tuple[str, list[str]]:
    """Return which variable gives the key-encryption keys, and these, as they are written; none where it is not set."""
    named = os.environ.get(KEK_FILE_VARIABLE, "")
    given = read_secret_file(Path(named), "key", KekError) if named else os.environ.get(KEK_VARIABLE, "")
    return KEK_FILE_VARIABLE if named else KEK_VARIABLE, [text for text in given.split(",") if text.strip()]


@dataclass(frozen=True)
class TransitSettings:
    """Which transit key is to encrypt."""

    mount: str
    name: str


def transit_settings() -> TransitSettings | None:
    """Return which transit key is to encrypt, or None if none is."""
    name = os.environ.get(TRANSIT_KEY_VARIABLE, "")
    if not name:
        return None
    mount = os.environ.get(TRANSIT_MOUNT_VARIABLE, "").strip("/") or "transit"
    if "/" in name or not _PATH.fullmatch(name):
        raise KekError(f"{TRANSIT_KEY_VARIABLE} is not the name of a transit key; write letters, digits, . - and _.")
    if not _PATH.fullmatch(mount):
        raise KekError(f"{TRANSIT_MOUNT_VARIABLE} is not the path of a mount; write it like transit.")
    return TransitSettings(mount, name)


@dataclass(frozen=True, repr=False)
class VaultSettings:
    """How to reach OpenBao or Vault."""

    address: str
    token: str
    namespace: str | None
    ca_file: str | None


def vault_settings() -> VaultSettings:
    """Return how to reach OpenBao or Vault; raise VaultError when that is not, or wrongly, set."""
    address = os.environ.get(ADDRESS_VARIABLE, "").rstrip("/")
    if not address:
        raise VaultError(f"{ADDRESS_VARIABLE} is not set here; set it to the address of OpenBao or Vault, and a token.")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.path:
        raise VaultError(f"{ADDRESS_VARIABLE} is not an address; write it like https://vault.example.org:8200.")
    return VaultSettings(
        address,
        _token(),
        os.environ.get(NAMESPACE_VARIABLE) or None,
        _ca_file(),
    )


def _token() -> str:
    named = os.environ.get(TOKEN_FILE_VARIABLE, "")
    token = read_secret_file(Path(named), "token", VaultError) if named else os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise VaultError(f"There is no vault token; set {TOKEN_FILE_VARIABLE} to a file with one, or {TOKEN_VARIABLE}.")
    # Checked here because the errors of the layers below would quote the token.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise VaultError("The vault token has characters that no token has; store it again.")
    return token


def _ca_file() -> str | None:
    path = os.environ.get(CA_FILE_VARIABLE, "")
    if path and not Path(path).is_file():
        raise VaultError(f"{CA_FILE_VARIABLE} names {path}, which is no file; name the authority's certificate.")
    return path or None
