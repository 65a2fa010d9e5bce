"""The health of a single process, for health checks of containers.

The check runs every 5 to 30 seconds for each container, so this module imports very little: httpx would add 0.2 s of
CPU time to 0.3 s. Whether prices flow is not checked here, but by the alerts.
"""

import json
import socket
import ssl
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, Ports
from barmill.platform.service import is_running
from barmill.platform.tls import TlsFiles

_TIMEOUT_S = 3.0


def is_healthy(home: Home, ports: Ports, name: str) -> bool:
    """Return whether the process of this name is up; it runs in this container or is reachable from it."""
    match name:
        case "jobmanager":
            return _taskmanagers(home, ports) is not None
        case "taskmanager":
            return bool(_taskmanagers(home, ports))
        case "market":
            return is_listening(ports.market_host, ports.market)
        case "app":
            return _get_json(f"http://{LOOPBACK}:{ports.app}/healthz") is not None
    return is_running(home, name)


def is_listening(host: str, port: int) -> bool:
    """Return whether a program listens on this port of a host."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False


def _taskmanagers(home: Home, ports: Ports) -> int | None:
    """Return the number of TaskManagers that the JobManager knows, or None if it does not respond."""
    try:
        context = TlsFiles(home.tls).client_context()
    except OSError:
        return None
    overview = _get_json(f"https://{ports.jobmanager_host}:{ports.jobmanager_rest}/overview", context)
    return None if overview is None else int(overview["taskmanagers"])


def _get_json(url: str, context: ssl.SSLContext | None = None) -> Any:
    # These addresses are on this machine or in its private network, where no proxy is needed.
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except (OSError, HTTPException, ValueError):
        return None
