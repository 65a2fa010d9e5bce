"""`barmill check`: report in the exit code whether a process that `run` started is healthy."""

import argparse

from barmill.platform.home import Home
from barmill.platform.ports import PEERS_VARIABLE, read_ports
from cli.common import UserError
from control.processes.health import is_healthy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("process", help="the process name, as in ./barmill run")


def run(args: argparse.Namespace) -> int:
    """Return 0 if the process is healthy, otherwise 1."""
    home = Home.find()
    ports = read_ports(home)
    if ports is None:
        raise UserError(
            f"{PEERS_VARIABLE} does not contain the addresses of the processes; on one machine, use ./barmill status."
        )
    return 0 if is_healthy(home, ports, args.process) else 1
