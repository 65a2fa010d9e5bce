"""Sources of the key store's own keys: environment variables of the processes that open it.

BARMILL_KEK                key-encryption keys, each 32 bytes in base64, separated by commas; the first encrypts
BARMILL_KEK_FILE           file with the same content, as an alternative to BARMILL_KEK
BARMILL_TRANSIT_KEY        name of the transit key that encrypts, in OpenBao or Vault
BARMILL_TRANSIT_MOUNT      mount path of the transit engine (default: transit)
BARMILL_VAULT_ADDR         address of OpenBao or Vault, such as https://vault.example.org:8200
BARMILL_VAULT_TOKEN_FILE   file with the token, read at each use, so that an agent can renew it
BARMILL_VAULT_TOKEN        the token, if BARMILL_VAULT_TOKEN_FILE is not set
BARMILL_VAULT_NAMESPACE    namespace, if any
BARMILL_VAULT_CACERT       certificate file of a private authority that signed the server's certificate
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from barmill.platform.settings_file import read_secret_file
from barmill.secrets.info import KekError, VaultError

KEK_VARIABLE = "BARMILL_KEK"
KEK_FILE_VARIABLE = "BARMILL_KEK_FILE"
ADDRESS_VARIABLE = "BARMILL_VAULT_ADDR"
TOKEN_VARIABLE = "BARMILL_VAULT_TOKEN"
TOKEN_FILE_VARIABLE = "BARMILL_VAULT_TOKEN_FILE"
TRANSIT_KEY_VARIABLE = "BARMILL_TRANSIT_KEY"
TRANSIT_MOUNT_VARIABLE = "BARMILL_TRANSIT_MOUNT"
NAMESPACE_VARIABLE = "BARMILL_VAULT_NAMESPACE"
CA_FILE_VARIABLE = "BARMILL_VAULT_CACERT"
# The variables that open the key store; see `programs` in control/system/readiness.py for the processes that get them.
SECRET_VARIABLES = (KEK_VARIABLE, KEK_FILE_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)
ALL_VARIABLES = (
    *SECRET_VARIABLES,
    *(ADDRESS_VARIABLE, NAMESPACE_VARIABLE, CA_FILE_VARIABLE, TRANSIT_KEY_VARIABLE, TRANSIT_MOUNT_VARIABLE),
)

_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def kek_texts() -> tuple[str, list[str]]:
    """Return the name of the variable that gives the key-encryption keys, and the keys as written; empty if not set.

    Raise KekError if the file that BARMILL_KEK_FILE names cannot be read.
    """
    path = os.environ.get(KEK_FILE_VARIABLE, "")
    keys = read_secret_file(Path(path), "key", KekError) if path else os.environ.get(KEK_VARIABLE, "")
    return KEK_FILE_VARIABLE if path else KEK_VARIABLE, [text for text in keys.split(",") if text.strip()]


@dataclass(frozen=True)
class TransitSettings:
    """The transit key to encrypt with."""

    mount: str
    name: str


def transit_settings() -> TransitSettings | None:
    """Return the transit key to encrypt with, or None if none is set. Raise KekError if a name is invalid."""
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
    """The settings of a connection to OpenBao or Vault."""

    address: str
    token: str
    namespace: str | None
    ca_file: str | None


def vault_settings() -> VaultSettings:
    """Return the settings of the connection to OpenBao or Vault. Raise VaultError if they are missing or invalid."""
    address = os.environ.get(ADDRESS_VARIABLE, "").rstrip("/")
    if not address:
        raise VaultError(
            f"{ADDRESS_VARIABLE} is not set; set it to the address of OpenBao or Vault, and provide a token."
        )
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
    path = os.environ.get(TOKEN_FILE_VARIABLE, "")
    token = read_secret_file(Path(path), "token", VaultError) if path else os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise VaultError(f"There is no vault token; set {TOKEN_FILE_VARIABLE} to a file with one, or {TOKEN_VARIABLE}.")
    # Checked here because errors of the layers below would quote the token.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise VaultError("The vault token contains invalid characters; store it again.")
    return token


def _ca_file() -> str | None:
    path = os.environ.get(CA_FILE_VARIABLE, "")
    if path and not Path(path).is_file():
        raise VaultError(
            f"{CA_FILE_VARIABLE} is set to {path}, which is not a file; set it to the authority's certificate."
        )
    return path or None
