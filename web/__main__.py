"""The app's process: python -m web --home HOME --port PORT [--address ADDRESS]."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from barmill.auth.settings import SignInSettings
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.ports import LOOPBACK
from barmill.platform.settings_file import SettingsError
from web.app import application
from web.connections import limit_connections
from web.streamlit_compat import set_main_script

logger = logging.getLogger("web")


def main(arguments: Sequence[str]) -> int:
    """Serve the app until a signal arrives; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m web", description="Serve Barmill's pages, behind sign-in.")
    parser.add_argument("--home", type=Path, required=True, help="Barmill's home")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default=LOOPBACK, help="address to listen on (default %(default)s)")
    args = parser.parse_args(arguments)
    home = Home(args.home).create()
    os.environ["BARMILL_HOME"] = str(home.root)  # for the pages
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = SignInSettings.read(home)
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn must not read X-Forwarded-For; see web/app.py
    limit_connections(settings.trusted_proxy)
    set_main_script(REPO_ROOT / "app.py")
    listen = {"server.address": args.address, "server.port": args.port, "server.headless": True}
    application(home, settings).run(config=listen)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
