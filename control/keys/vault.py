"""Requests to OpenBao or Vault, whose every failure is one sentence that quotes nothing secret."""

from collections.abc import Callable
from typing import Any, Self

import requests

from control.bounded import bounded_session
from control.keys.errors import VaultError, VaultForbiddenError, VaultNotFoundError, VaultRequestError
from control.keys.settings import VaultSettings, vault_settings

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0


class Vault:
    """One OpenBao or Vault. Each request has a connection of its own."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Vault {self._settings.address}>"

    @classmethod
    def from_environment(cls) -> Self:
        """Return the vault that the environment names; raise VaultError where it names none."""
        return cls(vault_settings())

    @property
    def address(self) -> str:
        """Where it is."""
        return self._settings.address

    def ask(self, subject: str, request: Callable[[Any], Any]) -> dict[str, Any]:
        """Let `request` make one request with an hvac client; return the answer's `data`, which may be empty.

        subject: what the request is about, for the sentences of the errors.
        """
        # Imported only here: most homes have no vault, and their processes start sooner and smaller without it.
        from hvac import Client, exceptions

        settings = self._settings
        with bounded_session(ANSWER_TIMEOUT_S) as session:
            session.verify = settings.ca_file or True
            client = Client(
                settings.address,
                settings.token,
                namespace=settings.namespace,
                session=session,
                timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S),
                allow_redirects=False,
            )
            # Their messages may hold what was sent or found, so none of them is passed on or chained.
            try:
                answer = request(client)
            except exceptions.Forbidden:
                raise VaultForbiddenError(
                    f"The vault at {self.address} does not let this token use {subject};"
                    " renew the token, or give it a policy that allows this."
                ) from None
            except exceptions.InvalidPath:
                raise VaultNotFoundError(
                    f"The vault at {self.address} knows nothing of {subject}; check the mount and the name."
                ) from None
            except exceptions.VaultDown:
                raise VaultError(f"The vault at {self.address} is sealed; unseal it and try again.") from None
            except exceptions.InvalidRequest as error:
                sentence = f"The vault at {self.address} could do nothing with {subject}; check its name and kind."
                raise VaultRequestError(sentence, error.errors or ()) from None
            except exceptions.VaultError as error:
                raise VaultError(
                    f"The vault at {self.address} failed ({type(error).__name__}); its own log says why."
                ) from None
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
        if getattr(answer, "status_code", None) == requests.codes.no_content:
            return {}
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict):
            raise VaultError(f"What answers at {self.address} is not OpenBao or Vault; correct BARMILL_VAULT_ADDR.")
        return data
