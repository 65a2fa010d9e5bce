"""A key-encryption key that stays in the transit engine of OpenBao or Vault, which works with it on request.

An id stands for one generation of the key, from one renewal to the next. Its proof is a text encrypted with it, which
tells a key from another one of the same name, on another server or made anew.
"""

import base64
import binascii
import re
import secrets
from dataclasses import dataclass
from typing import Any, Self

from control.keys.errors import KekError, TamperedSecretError, VaultError, VaultForbiddenError, VaultRequestError
from control.keys.vault import Vault

_PROOF_CONTEXT = b"barmill transit proof 1"
_PROOF = b"this is the key"


@dataclass(frozen=True, repr=False)
class TransitKek:
    """A transit key of a type that knows associated data, such as aes256-gcm96."""

    vault: Vault
    mount: str
    name: str
    id: str
    proof: bytes

    @classmethod
    def fresh(cls, vault: Vault, mount: str, name: str) -> Self:
        """Return a new generation of a key, with its proof; the engine makes the key where the token may do that."""
        kek_id = f"transit-{secrets.token_hex(8)}"
        return cls(vault, mount, name, kek_id, cls(vault, mount, name, kek_id, b"").wrap(_PROOF, _PROOF_CONTEXT))

    def __repr__(self) -> str:
        return f"<TransitKek {self.mount}/{self.name} {self.id}>"

    @property
    def place(self) -> str:
        """Say in words where the key is."""
        return f"the transit key {self.mount}/{self.name} at {self.vault.address}"

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        answer = self._ask("encrypt_data", plaintext=_text(data_key), associated_data=_text(context))
        return self._part(answer, "ciphertext").encode()

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key; raise TamperedSecretError when it or its context is not what was wrapped."""
        ciphertext = wrapped.decode("ascii", "replace")
        answer = self._ask("decrypt_data", ciphertext=ciphertext, associated_data=_text(context))
        return self._bytes(self._part(answer, "plaintext"))

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that nobody without the key can recompute."""
        answer = self._ask("generate_hmac", hash_input=_text(message))
        return self._bytes(self._part(answer, "hmac").rpartition(":")[2])

    def check(self) -> None:
        """Raise KekError unless this is the key that the proof was encrypted with."""
        try:
            self.unwrap(self.proof, _PROOF_CONTEXT)
        except TamperedSecretError:
            raise KekError(
                f"The key that {self.place} is now is not the one that the stored keys were encrypted with;"
                " bring the right one back, or delete the stored keys."
            ) from None

    def renewed(self) -> Self:
        """Have the engine make a new version of the key; return it as a generation of its own.

        Where the token may not do that, a version that somebody made since the last renewal will do.
        """
        try:
            self._ask("rotate_key")
        except VaultForbiddenError:
            new = self.fresh(self.vault, self.mount, self.name)
            if _version(new.proof) > _version(self.proof):
                return new
            raise KekError(
                f"This token may not rotate {self.place}; have its operator run"
                f" `bao write -f {self.mount}/keys/{self.name}/rotate` and call this again."
            ) from None
        return self.fresh(self.vault, self.mount, self.name)

    def _ask(self, method: str, **values: str) -> dict[str, Any]:
        try:
            return self.vault.ask(
                f"the transit key {self.mount}/{self.name}",
                lambda client: getattr(client.secrets.transit, method)(self.name, mount_point=self.mount, **values),
            )
        except VaultRequestError as error:
            reason = " ".join(error.reasons)
            if "message authentication failed" in reason or "invalid ciphertext" in reason:
                raise TamperedSecretError("This stored key's data key was changed.") from None
            if "not found" in reason:
                raise KekError(f"There is no {self.place.removeprefix('the ')}; check the name, or make it.") from None
            if "too old" in reason:
                raise KekError(
                    f"The policy of {self.place} keeps it from decrypting what an earlier version encrypted;"
                    " lower its min_decryption_version, run ./barmill key rotate-kek, and raise it again."
                ) from None
            if "AEAD" in reason or "associated" in reason:
                raise KekError(f"The type of {self.place} is of no use here; make it one of aes256-gcm96.") from None
            raise

    def _part(self, answer: dict[str, Any], name: str) -> str:
        part = answer.get(name)
        if not isinstance(part, str):
            raise VaultError(f"What answers at {self.vault.address} has no transit engine; correct BARMILL_VAULT_ADDR.")
        return part

    def _bytes(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise VaultError(f"What {self.vault.address} answers makes no sense; correct BARMILL_VAULT_ADDR.") from None


def _version(ciphertext: bytes) -> int:
    found = re.match(rb"vault:v(\d+):", ciphertext)
    return int(found[1]) if found else 0


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
