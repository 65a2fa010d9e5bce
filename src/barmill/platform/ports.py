"""Hosts and ports of a home's processes: all on loopback, or each on its own machine.

A home on one machine stores its ports in run/ports.json. If each process is a container, the environment variable
BARMILL_PEERS gives the addresses instead, as JSON with the fields of `Ports`.
"""

import errno
import json
import os
import random
import socket
from collections.abc import Collection
from dataclasses import KW_ONLY, asdict, dataclass
from itertools import islice

from barmill.platform.errors import ControlError
from barmill.platform.file_replacement import replace_file
from barmill.platform.home import Home

LOOPBACK = "127.0.0.1"
DEFAULT_APP_PORT = 8501
PEERS_VARIABLE = "BARMILL_PEERS"
# Below the ports that Linux, macOS and Windows give to outgoing connections and to listeners without a fixed port.
# Otherwise such a connection could take the port of a process that has not started yet, or is being restarted.
_OWN_RANGE = range(20_000, 32_768)
# The fields of Ports, in order, that a home chooses automatically.
_INTERNAL = ("market", "jobmanager_rest", "jobmanager_rpc", "kafka", "kafka_controller")


class PeersError(ControlError):
    """BARMILL_PEERS is invalid. The message says why."""


@dataclass(frozen=True)
class Ports:
    """The port of each listening process, and their hosts.

    listen: the address that each process listens on.
    slots: the number of task slots of each TaskManager.
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
        """Return the address of the demo market."""
        return f"http://{self.market_host}:{self.market}"


def is_free(port: int) -> bool:
    """Return whether a process could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier process in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_ports(count: int, reserved: Collection[int] = ()) -> list[int]:
    """Return this number of different loopback ports that are free, and that no process gets without asking for them.

    reserved: ports that are not returned, although they may be free.
    """
    candidates = (port for port in random.sample(_OWN_RANGE, len(_OWN_RANGE)) if port not in reserved)
    return list(islice(filter(is_free, candidates), count))


def read_ports(home: Home) -> Ports | None:
    """Return the addresses of this home's processes, or None before its first start.

    Raise PeersError if BARMILL_PEERS is set and not valid.
    """
    return _peers() or _read_stored(home)


def _peers() -> Ports | None:
    text = os.environ.get(PEERS_VARIABLE, "")
    try:
        return Ports(**json.loads(text)) if text else None
    except (json.JSONDecodeError, TypeError) as error:
        raise PeersError(f"{PEERS_VARIABLE} is not valid: {error}; correct it.") from error


def _read_stored(home: Home) -> Ports | None:
    try:
        return Ports(**json.loads((home.run / "ports.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def choose_ports(home: Home, app: int | None = None) -> Ports:
    """Choose, store and return the ports for a start on one machine.

    Internal ports are those of the last start; one that is not free, or that an outgoing connection could take, is
    replaced. The app's port is the user's choice: `app`, else the last one, else the default, even if it is not free.
    """
    last = _read_stored(home)
    app = app or (last.app if last else DEFAULT_APP_PORT)
    last_ports = [getattr(last, name, 0) for name in _INTERNAL]
    new_ports = iter(free_ports(len(last_ports), {app, *last_ports}))
    market, rest, rpc, kafka, controller = (
        port if port in _OWN_RANGE and is_free(port) else next(new_ports) for port in last_ports
    )
    ports = Ports(app, market, rest, rpc, kafka, controller)
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(home.run / "ports.json", json.dumps(asdict(ports)) + "\n")
    return ports
