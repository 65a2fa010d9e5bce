"""Where the processes of a home listen and find each other: all on loopback, or each on a machine of its own.

A home on one machine notes the ports it chose in run/ports.json. Where each process is a container, the environment
variable BARMILL_PEERS says it instead, as JSON with the fields of `Ports`.
"""

import errno
import json
import os
import socket
from dataclasses import KW_ONLY, asdict, dataclass

from control.errors import ControlError
from control.home import Home

LOOPBACK = "127.0.0.1"
DEFAULT_APP_PORT = 8501
PEERS_VARIABLE = "BARMILL_PEERS"
# Of the fields of Ports, in their order: what a home chooses by itself.
_INTERNAL = ("market", "jobmanager_rest", "jobmanager_rpc", "kafka", "kafka_controller")


class PeersError(ControlError):
    """BARMILL_PEERS cannot be used; the sentence says what it must be."""


@dataclass(frozen=True)
class Ports:
    """One port for each listening process, and the hosts they are on.

    listen: the address each of them listens on. slots: of each TaskManager.
    """

    app: int
    market: int
    jobmanager_rest: int
    jobmanager_rpc: int
    kafka: int = 0
    kafka_controller: int = 0
    _: KW_ONLY
    listen: str = LOOPBACK
    market_host: str = LOOPBACK
    jobmanager_host: str = LOOPBACK
    kafka_host: str = LOOPBACK
    slots: int = 12

    @property
    def market_url(self) -> str:
        """Address of the demo market."""
        return f"http://{self.market_host}:{self.market}"


def is_free(port: int) -> bool:
    """Tell whether a process could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: a connection of an earlier process that is still winding down does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_ports(count: int) -> list[int]:
    """Return that many different free loopback ports."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def read_ports(home: Home) -> Ports | None:
    """Return where the processes of this home are, or None before its first start."""
    return _peers() or _noted(home)


def _peers() -> Ports | None:
    text = os.environ.get(PEERS_VARIABLE, "")
    try:
        return Ports(**json.loads(text)) if text else None
    except (json.JSONDecodeError, TypeError) as error:
        raise PeersError(f"{PEERS_VARIABLE} does not say where the processes are: {error}; mend it.") from error


def _noted(home: Home) -> Ports | None:
    try:
        return Ports(**json.loads((home.run / "ports.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def choose_ports(home: Home, app: int | None = None) -> Ports:
    """Settle the ports for a start: the ones of last time where they are free, else new ones; the app's as asked.

    Internal ports are anybody's choice, so a taken one is replaced; the app's port is the user's and stays.
    """
    last = _noted(home)
    app = app or (last.app if last else DEFAULT_APP_PORT)
    remembered = [getattr(last, name, 0) for name in _INTERNAL]
    fresh = iter(free_ports(len(remembered)))
    market, rest, rpc, kafka, controller = (port if port and is_free(port) else next(fresh) for port in remembered)
    ports = Ports(app, market, rest, rpc, kafka, controller)
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home.run / "ports.json"
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(ports)) + "\n")
    beside.replace(path)
    return ports
