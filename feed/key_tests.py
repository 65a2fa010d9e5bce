"""How each provider is asked whether it takes a key; one that can be asked adds its line to KEY_TESTS."""

from collections.abc import Mapping

import requests

from control.bounded import bounded_session
from control.home import Home
from control.keys.errors import KeyTestError
from control.keys.trial import KeyTest
from control.machine.ports import read_ports

_TIMEOUT_S = (3.0, 10.0)


def ask_market(home: Home, key: str) -> str:
    """Ask the demo market for its instruments; return how many the key opens."""
    ports = read_ports(home)
    if ports is None:
        raise KeyTestError("The demo market has not been started yet; start Barmill with ./barmill up.")
    # Checked here because the errors of the layers below would quote the key.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KeyTestError("The key has characters that no key of the market has; check that it was copied whole.")
    url = ports.market_url
    try:
        with bounded_session(_TIMEOUT_S[1]) as session:  # a .netrc entry would replace the key, a proxy would see it
            answer = session.get(
                f"{url}/v1/instruments",
                headers={"Authorization": f"Bearer {key}"},
                allow_redirects=False,
                timeout=_TIMEOUT_S,
            )
            said = answer.json()
    except requests.exceptions.JSONDecodeError:
        raise KeyTestError(f"What answers at {url} is not the demo market; start Barmill with ./barmill up.") from None
    except requests.RequestException as error:
        raise KeyTestError(
            f"The demo market at {url} cannot be reached ({type(error).__name__}); start Barmill with ./barmill up."
        ) from None
    if answer.status_code != requests.codes.ok or not isinstance(said, list):
        reason = said.get("reason") if isinstance(said, dict) else None
        raise KeyTestError(f"The market refused the key: {reason or f'status {answer.status_code}'}")
    return f"The market takes the key; it opens {len(said)} instruments."


KEY_TESTS: Mapping[str, KeyTest] = {"market": ask_market}
