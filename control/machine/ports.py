"""Which loopback ports this home's processes listen on."""

import errno
import json
import socket
from dataclasses import asdict, astuple, dataclass

from control.home import Home

LOOPBACK = "127.0.0.1"
DEFAULT_APP_PORT = 8501


@dataclass(frozen=True)
class Ports:
    """One port for each listening process."""

    app: int
    market: int
    jobmanager_rest: int
    jobmanager_rpc: int
    kafka: int = 0
    kafka_controller: int = 0


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
    """Return the ports chosen for this home, or None before its first start."""
    try:
        return Ports(**json.loads((home.run / "ports.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def choose_ports(home: Home, app: int | None = None) -> Ports:
    """Settle the ports for a start: the ones of last time where they are free, else new ones; the app's as asked.

    Internal ports are anybody's choice, so a taken one is replaced; the app's port is the user's and stays.
    """
    last = read_ports(home)
    app = app or (last.app if last else DEFAULT_APP_PORT)
    _, *remembered = astuple(last or Ports(0, 0, 0, 0))
    fresh = iter(free_ports(len(remembered)))
    internal = [port if port and is_free(port) else next(fresh) for port in remembered]
    ports = Ports(app, *internal)
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home.run / "ports.json"
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(ports)) + "\n")
    beside.replace(path)
    return ports
