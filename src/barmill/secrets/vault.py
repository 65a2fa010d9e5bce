"""Requests to OpenBao or Vault, and the key-encryption key that stays in its transit engine.

hvac is built on requests and accepts no other HTTP client, so the limits on responses are an adapter of requests.
"""

import base64
import binascii
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from barmill.secrets.info import (
    KekError,
    TamperedSecretError,
    VaultError,
    VaultForbiddenError,
    VaultNotFoundError,
    VaultRequestError,
)
from barmill.secrets.settings import VaultSettings, vault_settings

CONNECT_TIMEOUT_S = 3.0
RESPONSE_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class ResponseTooLargeError(requests.RequestException):
    """The response is larger than any legitimate response. The rest of it was not read."""


class BoundedAdapter(HTTPAdapter):
    """A transport adapter for requests that reads at most max_bytes of a decompressed body, within total_s seconds."""

    def __init__(self, total_s: float, max_bytes: int = MAX_BODY_BYTES) -> None:
        super().__init__()
        self._total_s, self._max_bytes = total_s, max_bytes

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send a request and read the response. Raise ResponseTooLargeError, Timeout or another RequestException."""
        deadline_s = time.monotonic() + self._total_s
        response = super().send(*args, **options | {"stream": True})
        raw = cast(HTTPResponse, response.raw)
        try:
            response.raw = BytesIO(self._body(raw, deadline_s))
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            raw.close()
        return response

    def _body(self, raw: HTTPResponse, deadline_s: float) -> bytes:
        body = bytearray()
        while chunk := raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                raise ResponseTooLargeError(f"more than {self._max_bytes:,} bytes")
            if time.monotonic() > deadline_s:
                raise requests.Timeout("the response did not end in time")
        return bytes(body)


def bounded_session(total_s: float) -> requests.Session:
    """Return a session with bounded responses that takes nothing from the environment (.netrc, proxies)."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(total_s))
    return session


class Vault:
    """An OpenBao or Vault server. Each request opens its own connection."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Vault {self._settings.address}>"

    @classmethod
    def from_environment(cls) -> Self:
        """Return the vault that the environment names. Raise VaultError if its settings are missing or invalid."""
        return cls(vault_settings())

    @property
    def address(self) -> str:
        """Return the server's address."""
        return self._settings.address

    def call(self, subject: str, request: Callable[[Any], Any]) -> dict[str, Any]:
        """Make one request, with `request` called on an hvac client. Return its `data`, which may be empty.

        subject: what the request is about, for error messages. Raise VaultError, or the subclass that fits.
        """
        # Imported here because most homes have no vault; their processes start faster and use less memory without it.
        from hvac import Client, exceptions

        settings = self._settings
        with bounded_session(RESPONSE_TIMEOUT_S) as session:
            session.verify = settings.ca_file or True
            client = Client(
                settings.address,
                settings.token,
                namespace=settings.namespace,
                session=session,
                timeout=(CONNECT_TIMEOUT_S, RESPONSE_TIMEOUT_S),
                allow_redirects=False,
            )
            # The errors of hvac and requests may contain what was sent or found, so they are neither passed on nor
            # chained.
            try:
                response = request(client)
            except exceptions.Forbidden:
                raise VaultForbiddenError(
                    f"The vault at {self.address} does not permit this token to use {subject};"
                    " renew the token, or give it a policy that allows this."
                ) from None
            except exceptions.InvalidPath:
                raise VaultNotFoundError(
                    f"The vault at {self.address} does not have {subject}; check the mount and the name."
                ) from None
            except exceptions.VaultDown:
                raise VaultError(f"The vault at {self.address} is sealed; unseal it and try again.") from None
            except exceptions.InvalidRequest as error:
                sentence = f"The vault at {self.address} rejected the request for {subject}; check its name and type."
                raise VaultRequestError(sentence, error.errors or ()) from None
            except exceptions.VaultError as error:
                raise VaultError(f"The vault at {self.address} failed ({type(error).__name__}); see its log.") from None
            except requests.exceptions.SSLError:
                raise VaultError(
                    f"The certificate of the vault at {self.address} is not trusted;"
                    " set BARMILL_VAULT_CACERT to the certificate of the authority that signed it."
                ) from None
            except requests.RequestException as error:
                raise VaultError(
                    f"The vault at {self.address} cannot be reached ({type(error).__name__});"
                    " start it, or correct BARMILL_VAULT_ADDR."
                ) from None
        if getattr(response, "status_code", None) == requests.codes.no_content:
            return {}
        data = response.get("data") if isinstance(response, dict) else None
        if not isinstance(data, dict):
            raise VaultError(f"The server at {self.address} is not OpenBao or Vault; correct BARMILL_VAULT_ADDR.")
        return data


_PROOF_CONTEXT = b"barmill transit proof 1"
_PROOF = b"this is the key"


@dataclass(frozen=True, repr=False)
class TransitKek:
    """A transit key of a type that supports associated data, such as aes256-gcm96."""

    vault: Vault
    mount: str
    name: str
    id: str
    proof: bytes

    @classmethod
    def create(cls, vault: Vault, mount: str, name: str) -> Self:
        """Return a new generation of a key, with its proof. The engine creates the key if the token allows that."""
        kek_id = f"transit-{secrets.token_hex(8)}"
        return cls(vault, mount, name, kek_id, cls(vault, mount, name, kek_id, b"").wrap(_PROOF, _PROOF_CONTEXT))

    def __repr__(self) -> str:
        return f"<TransitKek {self.mount}/{self.name} {self.id}>"

    @property
    def location(self) -> str:
        """Return a description of where the key is."""
        return f"the transit key {self.mount}/{self.name} at {self.vault.address}"

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        data = self._call("encrypt_data", plaintext=_base64(data_key), associated_data=_base64(context))
        return self._text_field(data, "ciphertext").encode()

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key. Raise TamperedSecretError if it or its context differs from what was wrapped."""
        ciphertext = wrapped.decode("ascii", "replace")
        data = self._call("decrypt_data", ciphertext=ciphertext, associated_data=_base64(context))
        return self._bytes(self._text_field(data, "plaintext"))

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that cannot be computed without the key."""
        data = self._call("generate_hmac", hash_input=_base64(message))
        return self._bytes(self._text_field(data, "hmac").rpartition(":")[2])

    def check(self) -> None:
        """Raise KekError unless this is the key that encrypted the proof."""
        try:
            self.unwrap(self.proof, _PROOF_CONTEXT)
        except TamperedSecretError:
            raise KekError(
                f"The stored keys were encrypted with another key than the current key of {self.location};"
                " restore the original one, or delete the stored keys."
            ) from None

    def renew(self) -> Self:
        """Make the engine create a new version of the key, and return it as a new generation.

        If the token does not allow that, a version created by others since the last renewal is used. Raise KekError if
        there is none.
        """
        try:
            self._call("rotate_key")
        except VaultForbiddenError:
            new = self.create(self.vault, self.mount, self.name)
            if _version(new.proof) > _version(self.proof):
                return new
            raise KekError(
                f"This token may not rotate {self.location}; ask its operator to run"
                f" `bao write -f {self.mount}/keys/{self.name}/rotate`, then run this again."
            ) from None
        return self.create(self.vault, self.mount, self.name)

    def _call(self, method: str, **values: str) -> dict[str, Any]:
        try:
            return self.vault.call(
                f"the transit key {self.mount}/{self.name}",
                lambda client: getattr(client.secrets.transit, method)(self.name, mount_point=self.mount, **values),
            )
        except VaultRequestError as error:
            reason = " ".join(error.reasons)
            if "message authentication failed" in reason or "invalid ciphertext" in reason:
                raise TamperedSecretError("This stored key's data key was changed.") from None
            if "not found" in reason:
                raise KekError(
                    f"There is no {self.location.removeprefix('the ')}; check the name, or create it."
                ) from None
            if "too old" in reason:
                raise KekError(
                    f"The policy of {self.location} does not permit decryption with an earlier version;"
                    " lower its min_decryption_version, run ./barmill key rotate-kek, and raise it again."
                ) from None
            if "AEAD" in reason or "associated" in reason:
                raise KekError(
                    f"The type of {self.location} is not supported; use a key of type aes256-gcm96."
                ) from None
            raise

    def _text_field(self, data: dict[str, Any], name: str) -> str:
        text = data.get(name)
        if not isinstance(text, str):
            raise VaultError(f"The server at {self.vault.address} has no transit engine; correct BARMILL_VAULT_ADDR.")
        return text

    def _bytes(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise VaultError(f"The response of {self.vault.address} is invalid; correct BARMILL_VAULT_ADDR.") from None


def _version(ciphertext: bytes) -> int:
    match = re.match(rb"vault:v(\d+):", ciphertext)
    return int(match[1]) if match else 0


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
