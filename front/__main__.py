"""Run the app: python -m front --home HOME --port PORT [--address ADDRESS]."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from control.home import REPO_ROOT, Home
from control.machine.ports import LOOPBACK
from control.people.settings import SignInSettings
from control.settings_file import SettingsError
from front.app import application
from front.connections import limit_connections

logger = logging.getLogger("front")


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m front", description="Serve Barmill's pages, behind sign-in.")
    parser.add_argument("--home", type=Path, required=True, help="Barmill's home")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default=LOOPBACK, help="where to listen (default %(default)s)")
    args = parser.parse_args(arguments)
    home = Home(args.home).create()
    os.environ["BARMILL_HOME"] = str(home.root)  # for the pages
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = SignInSettings.read(home)
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn's own reading of X-Forwarded-For; front/forwarded.py says why
    limit_connections(settings.trusted_proxy)
    # What Streamlit takes for the launched script: its folder becomes the first place to import from.
    sys.argv = [str(REPO_ROOT / "app.py")]
    listen = {"server.address": args.address, "server.port": args.port, "server.headless": True}
    application(home, settings).run(config=listen)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
