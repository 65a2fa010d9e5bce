"""The routes of sign-in with an OIDC provider: to it, and back. Authlib checks state, nonce, PKCE and the ID token."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator
from typing import Any

import httpx
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from control.errors import ControlError
from control.home import Home
from control.keys.store import KeyStore
from control.people.database import open_people
from control.people.oidc import Identity, identity_of, sign_in_identity
from control.people.roles import Actor
from control.people.settings import OidcSettings, SignInSettings
from front.browser import client_of, signed_in_answer
from front.html_pages import page
from front.origins import is_local_path, own_origin

with warnings.catch_warnings():
    # Authlib would rather have httpx2; it says so to whoever reads our log, at every start.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth, OAuthError

logger = logging.getLogger(__name__)

CALLBACK = "/sign-in/oidc/callback"
_TIMEOUT_S, _TOTAL_S = 10.0, 20.0
# What a provider says of itself, its keys and a token are some kilobytes each.
_MAX_BODY_BYTES = 1024 * 1024
_WANTED = "barmill_wanted"
# What Authlib, the provider's answers and the network between can come up with.
_FAILURES = (OAuthError, JoseError, httpx.HTTPError, KeyError, ValueError, RuntimeError, TimeoutError)


class OidcRoutes:
    """The handlers over one home; what happens between the two is in Streamlit's signed session cookie."""

    def __init__(self, home: Home, settings: SignInSettings, oidc: OidcSettings) -> None:
        self._home, self._settings, self._oidc = home, settings, oidc

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        wanted = request.query_params.get("next", "/")
        request.session[_WANTED] = wanted if is_local_path(wanted) else "/"
        callback = f"{own_origin(request.scope, self._settings.public_url)}{CALLBACK}"
        try:
            async with asyncio.timeout(_TOTAL_S):
                client = await self._client()
                answer: Response = await client.authorize_redirect(request, callback)
        except ControlError as error:
            return self._refused(str(error))
        except _FAILURES as error:
            return self._failed(error)
        return answer

    async def callback(self, request: Request) -> Response:
        """Take the browser back, and let in whom the provider vouches for."""
        try:
            claims = {
                "iss": {"essential": True, "value": self._oidc.issuer},
                "aud": {"essential": True, "value": self._oidc.client_id},
            }
            async with asyncio.timeout(_TOTAL_S):
                client = await self._client()
                token = await client.authorize_access_token(request, claims_options=claims)
            identity = identity_of(token["userinfo"], self._oidc)
            session = await run_in_threadpool(self._let_in, identity, request)
        except ControlError as error:
            return self._refused(str(error))
        except _FAILURES as error:
            return self._failed(error)
        return signed_in_answer(request, self._home, self._settings, session, request.session.pop(_WANTED, "/"))

    def _let_in(self, identity: Identity, request: Request) -> str:
        with open_people(self._home) as db:
            return sign_in_identity(db, identity, client_of(request), self._settings)

    async def _client(self) -> Any:
        """Return a client that knows what the provider says of itself at this moment."""
        secret = await run_in_threadpool(self._secret)
        client = OAuth().register(
            "oidc",
            client_id=self._oidc.client_id,
            client_secret=secret,
            server_metadata_url=f"{self._oidc.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(self._oidc.scopes),
                "code_challenge_method": "S256",
                "timeout": _TIMEOUT_S,
                "headers": {"Accept-Encoding": "identity"},
                "event_hooks": {"response": [_bounded]},
            },
        )
        metadata = await client.load_server_metadata()
        # A provider may offer tokens that nobody signed; those prove nothing.
        algorithms = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        metadata["id_token_signing_alg_values_supported"] = [name for name in algorithms if name != "none"]
        return client

    def _secret(self) -> str:
        if self._oidc.client_secret_file is not None:
            try:
                path = self._home.root / self._oidc.client_secret_file
                return path.read_text("utf-8").strip()
            except OSError as error:
                logger.error("The secret of the OIDC client cannot be read: %s", error)
                raise ControlError("The secret of the OIDC client cannot be read; ask an admin.") from error
        with KeyStore.open(self._home, Actor("sign-in")) as store:
            return store.reveal(str(self._oidc.client_secret_key))

    def _failed(self, error: Exception) -> Response:
        # The text comes by way of the address bar, from anywhere: it goes to the log, not on a page of ours.
        logger.warning("Sign-in with OIDC failed: %s: %s", type(error).__name__, error)
        return self._refused(f"Signing in with {self._oidc.label} did not work; try again, or ask an admin.")

    def _refused(self, sentence: str) -> Response:
        values = {"title": "Sign in", "next": "/", "name": "", "error": sentence, "provider": self._oidc.label}
        return page("sign_in.html", values, status=403)


class _Bounded(httpx.AsyncByteStream):
    """The body of an answer, which fails where it is larger than any that makes sense."""

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _MAX_BODY_BYTES
        async for part in self._body:
            left -= len(part)
            if left < 0:
                raise httpx.ReadError(f"the answer has more than {_MAX_BODY_BYTES:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


async def _bounded(answer: httpx.Response) -> None:
    """Bound an answer before it is read; a compressed one could unpack to any size, and was not asked for."""
    if "content-encoding" in answer.headers or not isinstance(answer.stream, httpx.AsyncByteStream):
        raise httpx.DecodingError("the answer is compressed, which it was asked not to be")
    answer.stream = _Bounded(answer.stream)
