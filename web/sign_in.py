"""The routes for signing in: by password, at an OIDC provider, or with a one-time link to choose a password."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from anyio import CapacityLimiter, to_thread
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from barmill.audit.accounts import LinkError, TooManyFailuresError, open_audited_db
from barmill.audit.roles import Actor
from barmill.auth import sign_in as authentication
from barmill.auth.administration import MIN_PASSWORD_LENGTH
from barmill.auth.oidc import Identity, identity_of, sign_in_identity
from barmill.auth.settings import OidcSettings, SignInSettings
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from web.browser import client_of, is_local_path, own_origin, read_form, signed_in_response, user_of
from web.headers import page

with warnings.catch_warnings():
    # Authlib recommends httpx2 with a warning in the log at every start.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth, OAuthError

logger = logging.getLogger(__name__)

CALLBACK = "/sign-in/oidc/callback"
_REQUEST_TIMEOUT_S, _TOTAL_TIMEOUT_S = 10.0, 20.0
# A provider's metadata, its keys and a token are some kilobytes each.
_MAX_BODY_BYTES = 1024 * 1024
_TARGET_KEY = "barmill_sign_in_target"
# Errors that Authlib, the provider's responses and the network can cause.
_SIGN_IN_ERRORS = (OAuthError, JoseError, httpx.HTTPError, KeyError, ValueError, RuntimeError, TimeoutError)


class OidcRoutes:
    """The request handlers for sign-in at an OIDC provider; state between them is in Streamlit's signed cookie."""

    def __init__(self, home: Home, settings: SignInSettings, oidc: OidcSettings) -> None:
        self._home, self._settings, self._oidc = home, settings, oidc

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        target = request.query_params.get("next", "/")
        request.session[_TARGET_KEY] = target if is_local_path(target) else "/"
        callback = f"{own_origin(request.scope, self._settings.public_url)}{CALLBACK}"
        try:
            async with asyncio.timeout(_TOTAL_TIMEOUT_S):
                client = await self._client()
                response: Response = await client.authorize_redirect(request, callback)
        except ControlError as error:
            return self._refusal_response(str(error))
        except _SIGN_IN_ERRORS as error:
            return self._failure_response(error)
        return response

    async def callback(self, request: Request) -> Response:
        """Sign in the user whom the provider identified, when the browser returns from it."""
        try:
            claims = {
                "iss": {"essential": True, "value": self._oidc.issuer},
                "aud": {"essential": True, "value": self._oidc.client_id},
            }
            async with asyncio.timeout(_TOTAL_TIMEOUT_S):
                client = await self._client()
                token = await client.authorize_access_token(request, claims_options=claims)
            identity = identity_of(token["userinfo"], self._oidc)
            session = await run_in_threadpool(self._sign_in, identity, request)
        except ControlError as error:
            return self._refusal_response(str(error))
        except _SIGN_IN_ERRORS as error:
            return self._failure_response(error)
        return signed_in_response(request, self._home, self._settings, session, request.session.pop(_TARGET_KEY, "/"))

    def _sign_in(self, identity: Identity, request: Request) -> str:
        with open_audited_db(self._home) as db:
            return sign_in_identity(db, identity, client_of(request), self._settings)

    async def _client(self) -> Any:
        """Return a client with the provider's current metadata."""
        secret = await run_in_threadpool(self._secret)
        client = OAuth().register(
            "oidc",
            client_id=self._oidc.client_id,
            client_secret=secret,
            server_metadata_url=f"{self._oidc.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(self._oidc.scopes),
                "code_challenge_method": "S256",
                "timeout": _REQUEST_TIMEOUT_S,
                "headers": {"Accept-Encoding": "identity"},
                "event_hooks": {"response": [_limit_body]},
            },
        )
        metadata = await client.load_server_metadata()
        # A provider may offer unsigned tokens, which prove nothing.
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

    def _failure_response(self, error: Exception) -> Response:
        # Any site can put this text into the address, so it is logged and not shown on a page.
        logger.warning("Sign-in with OIDC failed: %s: %s", type(error).__name__, error)
        return self._refusal_response(f"Sign-in with {self._oidc.label} failed; try again, or ask an admin.")

    def _refusal_response(self, sentence: str) -> Response:
        values = {"title": "Sign in", "next": "/", "name": "", "error": sentence, "provider": self._oidc.label}
        return page("sign_in.html", values, status=403)


class _LimitedBody(httpx.AsyncByteStream):
    """The body of a response, which raises httpx.ReadError after _MAX_BODY_BYTES."""

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        remaining = _MAX_BODY_BYTES
        async for part in self._body:
            remaining -= len(part)
            if remaining < 0:
                raise httpx.ReadError(f"the response has more than {_MAX_BODY_BYTES:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


async def _limit_body(response: httpx.Response) -> None:
    """Limit a response before it is read; refuse a compressed one (DecodingError), which could unpack to any size."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.AsyncByteStream):
        raise httpx.DecodingError("the response is compressed, although the request excludes compression")
    response.stream = _LimitedBody(response.stream)


# A password check takes some tenths of a CPU second.
_THREADS = 2


class SignInRoutes:
    """The request handlers for sign-in by password and by one-time link."""

    def __init__(self, home: Home, settings: SignInSettings) -> None:
        self._home, self._settings = home, settings
        self._threads = CapacityLimiter(_THREADS)  # reserved, so that no other request delays a sign-in

    async def show_sign_in(self, request: Request) -> Response:
        """Show the form, or redirect a signed-in user to the requested page."""
        target = _local_path(request.query_params.get("next", "/"))
        return RedirectResponse(target, 303) if user_of(request) else self._sign_in_page(target)

    async def sign_in(self, request: Request) -> Response:
        """Sign a user in by name and password."""
        fields = await read_form(request) or {}
        name, password, target = (
            fields.get("name", ""),
            fields.get("password", ""),
            _local_path(fields.get("next", "/")),
        )
        client = client_of(request)

        def check_and_sign_in() -> str:
            with open_audited_db(self._home) as db:
                return authentication.sign_in(db, name, password, client, self._settings)

        try:
            token = await to_thread.run_sync(check_and_sign_in, limiter=self._threads)
        except TooManyFailuresError as error:
            return self._sign_in_page(target, name, str(error), 429, {"Retry-After": str(error.wait_s)})
        except ControlError as error:
            return self._sign_in_page(target, name, str(error), 403)
        return signed_in_response(request, self._home, self._settings, token, target)

    async def show_welcome(self, request: Request) -> Response:
        """Show the form behind a one-time link; this does not use up the link."""
        return await self._welcome_page(request.query_params.get("token", ""))

    async def set_password(self, request: Request) -> Response:
        """Set the password of the link's account, and sign its owner in."""
        fields = await read_form(request) or {}
        token, password = fields.get("token", ""), fields.get("password", "")
        if password != fields.get("again"):
            return await self._welcome_page(token, "The passwords do not match.")
        client = client_of(request)

        def check_and_sign_in() -> str:
            with open_audited_db(self._home) as db:
                return authentication.set_first_password(db, token, password, client, self._settings)

        try:
            session = await to_thread.run_sync(check_and_sign_in, limiter=self._threads)
        except ControlError as error:
            return await self._welcome_page(token, str(error))
        return signed_in_response(request, self._home, self._settings, session, "/")

    def _sign_in_page(
        self, target: str, name: str = "", error: str = "", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        provider = self._settings.oidc.label if self._settings.oidc else ""
        values = {"title": "Sign in", "next": target, "name": name, "error": error, "provider": provider}
        return page("sign_in.html", values, status=status, headers=headers)

    async def _welcome_page(self, token: str, error: str = "") -> Response:
        def account_name() -> str:
            with open_audited_db(self._home) as db:
                return authentication.account_of_link(db, token)

        try:
            name = await to_thread.run_sync(account_name, limiter=self._threads)
        except LinkError as link_error:
            return page("message.html", {"title": "Welcome", "text": str(link_error)}, status=404)
        values = {"title": "Welcome", "token": token, "name": name, "error": error, "min_length": MIN_PASSWORD_LENGTH}
        return page("welcome.html", values, status=422 if error else 200)


def _local_path(path: str) -> str:
    return path if is_local_path(path) else "/"
