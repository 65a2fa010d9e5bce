"""Keys that are kept elsewhere: `env:NAME` or `vault:MOUNT/PATH#FIELD`, looked up at the moment of use.

env:NAME                 a variable in the environment of the process that uses the key: the feed, mostly
vault:MOUNT/PATH#FIELD   a text in the key-value store, version 2, of OpenBao or Vault (see settings.py)
"""

import os
import re
from dataclasses import dataclass

from control.keys.errors import SecretReferenceError, VaultNotFoundError
from control.keys.vault import Vault

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VAULT = re.compile(r"([A-Za-z0-9_.-]{1,128})/([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)#([A-Za-z0-9_.-]{1,128})")
# What opens the key store itself is nobody's API key.
_OWN_VARIABLES = "BARMILL_"
_MAX_LENGTH = 512


@dataclass(frozen=True)
class EnvironmentReference:
    """A key in an environment variable."""

    variable: str

    def __str__(self) -> str:
        return f"env:{self.variable}"

    def look_up(self) -> str:
        """Return the key; raise SecretReferenceError where there is none."""
        key = os.environ.get(self.variable, "")
        if not key:
            raise SecretReferenceError(
                f"The environment variable {self.variable} is not set here; set it, and start Barmill again with it."
            )
        return key


@dataclass(frozen=True)
class VaultReference:
    """A key in a field of a secret in OpenBao's or Vault's key-value store."""

    mount: str
    path: str
    field: str

    def __str__(self) -> str:
        return f"vault:{self.mount}/{self.path}#{self.field}"

    def look_up(self) -> str:
        """Return the key; raise SecretReferenceError where there is none, VaultError where nobody can tell."""
        vault = Vault.from_environment()
        try:
            answer = vault.ask(
                f"the secret {self.mount}/{self.path}",
                lambda client: client.secrets.kv.v2.read_secret(
                    self.path, mount_point=self.mount, raise_on_deleted_version=True
                ),
            )
        except VaultNotFoundError as error:
            raise SecretReferenceError(str(error)) from None
        fields = answer.get("data")
        key = fields.get(self.field) if isinstance(fields, dict) else None
        if not isinstance(key, str) or not key:
            raise SecretReferenceError(
                f"The secret {self.mount}/{self.path} in the vault at {vault.address} has no text in its field"
                f" {self.field}; put the key there, or correct the reference."
            )
        return key


Reference = EnvironmentReference | VaultReference


def parse_reference(text: str) -> Reference:
    """Read `env:NAME` or `vault:MOUNT/PATH#FIELD`."""
    kind, _, rest = text.partition(":")
    if len(text) > _MAX_LENGTH:
        raise SecretReferenceError(f"A reference has at most {_MAX_LENGTH} characters.")
    if kind == "env" and _VARIABLE.fullmatch(rest):
        if rest.upper().startswith(_OWN_VARIABLES):
            raise SecretReferenceError(f"{rest} is one of Barmill's own settings; keep the key in another variable.")
        return EnvironmentReference(rest)
    if kind == "vault" and (found := _VAULT.fullmatch(rest)) and ".." not in rest.split("#")[0].split("/"):
        return VaultReference(*found.groups())
    # Not quoted: it may be a key that somebody took for a reference.
    raise SecretReferenceError("This is no reference to a key; write env:NAME or vault:MOUNT/PATH#FIELD.")
