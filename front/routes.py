"""What there is besides Streamlit's own paths: every route of ours, in one place."""

from starlette.routing import Route

from control.home import Home
from control.monitor.prometheus import metrics_route
from control.people.settings import SignInSettings
from front.bars import BarRoutes
from front.health import Health
from front.oidc import CALLBACK, OidcRoutes
from front.session import SessionRoutes
from front.sign_in import SignInRoutes
from front.start_page import start_routes


def open_routes(home: Home, settings: SignInSettings) -> list[Route]:
    """Return the routes that need no session."""
    people = SignInRoutes(home, settings)
    provider = OidcRoutes(home, settings, settings.oidc) if settings.oidc else None
    with_provider = [Route("/sign-in/oidc", provider.start), Route(CALLBACK, provider.callback)] if provider else []
    return [
        Route("/healthz", Health(home).answer),
        metrics_route(home),
        Route("/sign-in", people.show_sign_in),
        Route("/sign-in", people.sign_in, methods=["POST"]),
        Route("/welcome", people.show_welcome),
        Route("/welcome", people.welcome, methods=["POST"]),
        *with_provider,
    ]


def signed_in_routes(home: Home) -> list[Route]:
    """Return the routes behind the gate."""
    session = SessionRoutes(home)
    return [
        Route("/session", session.look),
        Route("/session", session.seen, methods=["POST"]),
        Route("/sign-out", session.sign_out, methods=["POST"]),
        *BarRoutes(home).routes(),
        *start_routes(),
    ]
