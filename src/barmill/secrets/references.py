"""References to keys stored elsewhere: `env:NAME` or `vault:MOUNT/PATH#FIELD`, resolved at the moment of use.

env:NAME                 an environment variable of the process that uses the key, usually ingest
vault:MOUNT/PATH#FIELD   a text in the key-value store, version 2, of OpenBao or Vault (see settings.py)
"""

import os
import re
from dataclasses import dataclass

from barmill.secrets.info import SecretReferenceError, VaultNotFoundError
from barmill.secrets.vault import Vault

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VAULT = re.compile(r"([A-Za-z0-9_.-]{1,128})/([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)#([A-Za-z0-9_.-]{1,128})")
# The variables that open the key store itself must not be used as API keys.
_OWN_PREFIX = "BARMILL_"
_MAX_LENGTH = 512


@dataclass(frozen=True)
class EnvironmentReference:
    """A key in an environment variable."""

    variable: str

    def __str__(self) -> str:
        return f"env:{self.variable}"

    def look_up(self) -> str:
        """Return the key. Raise SecretReferenceError if there is none."""
        key = os.environ.get(self.variable, "")
        if not key:
            raise SecretReferenceError(
                f"The environment variable {self.variable} is not set; set it and restart Barmill."
            )
        return key


@dataclass(frozen=True)
class VaultReference:
    """A key in a field of a secret in the key-value store of OpenBao or Vault."""

    mount: str
    path: str
    field: str

    def __str__(self) -> str:
        return f"vault:{self.mount}/{self.path}#{self.field}"

    def look_up(self) -> str:
        """Return the key. Raise SecretReferenceError if there is none, VaultError if the vault fails or refuses."""
        vault = Vault.from_environment()
        try:
            data = vault.call(
                f"the secret {self.mount}/{self.path}",
                lambda client: client.secrets.kv.v2.read_secret(
                    self.path, mount_point=self.mount, raise_on_deleted_version=True
                ),
            )
        except VaultNotFoundError as error:
            raise SecretReferenceError(str(error)) from None
        fields = data.get("data")
        key = fields.get(self.field) if isinstance(fields, dict) else None
        if not isinstance(key, str) or not key:
            raise SecretReferenceError(
                f"The secret {self.mount}/{self.path} in the vault at {vault.address} has no text in its field"
                f" {self.field}; store the key there, or correct the reference."
            )
        return key


Reference = EnvironmentReference | VaultReference


def parse_reference(text: str) -> Reference:
    """Parse `env:NAME` or `vault:MOUNT/PATH#FIELD`. Raise SecretReferenceError for anything else."""
    kind, _, rest = text.partition(":")
    if len(text) > _MAX_LENGTH:
        raise SecretReferenceError(f"A reference may have at most {_MAX_LENGTH} characters.")
    if kind == "env" and _VARIABLE.fullmatch(rest):
        if rest.upper().startswith(_OWN_PREFIX):
            raise SecretReferenceError(f"{rest} is one of Barmill's settings; use another variable for the key.")
        return EnvironmentReference(rest)
    if kind == "vault" and (match := _VAULT.fullmatch(rest)) and ".." not in rest.split("#")[0].split("/"):
        return VaultReference(*match.groups())
    # Not quoted, as it may be a key entered in place of a reference.
    raise SecretReferenceError("This is not a reference to a key; write env:NAME or vault:MOUNT/PATH#FIELD.")
