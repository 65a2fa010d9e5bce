"""Whether one process is well, for whoever runs it by itself and asks now and then, as Docker does.

Asked every few seconds for each container, so it imports next to nothing. Whether prices flow is for alerts to say.
"""

import json
import socket
import ssl
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from control.home import Home
from control.machine.ports import LOOPBACK, Ports
from control.machine.service import is_at_work
from control.machine.tls import TlsFiles

_TIMEOUT_S = 3.0


def is_well(home: Home, ports: Ports, name: str) -> bool:
    """Tell whether the process of this name, in this container or reached from it, is up."""
    match name:
        case "jobmanager":
            return _taskmanagers(home, ports) is not None
        case "taskmanager":
            return bool(_taskmanagers(home, ports))
        case "market":
            return listens(ports.market_host, ports.market)
        case "app":
            return _answer(f"http://{LOOPBACK}:{ports.app}/healthz") is not None
    return is_at_work(home, name)


def listens(host: str, port: int) -> bool:
    """Tell whether something listens on a port of a host."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False


def _taskmanagers(home: Home, ports: Ports) -> int | None:
    """Return how many TaskManagers the JobManager knows, or None if it does not answer."""
    try:
        context = TlsFiles(home.tls).client_context()
    except OSError:
        return None
    overview = _answer(f"https://{ports.jobmanager_host}:{ports.jobmanager_rest}/overview", context)
    return None if overview is None else int(overview["taskmanagers"])


def _answer(url: str, context: ssl.SSLContext | None = None) -> Any:
    try:
        with urlopen(url, timeout=_TIMEOUT_S, context=context) as answer:
            return json.load(answer)
    except (URLError, OSError, ValueError):
        return None
