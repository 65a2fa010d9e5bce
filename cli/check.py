"""`barmill check`: says by its exit code whether a process that was started with `run` is well."""

import argparse

from cli.errors import UserError
from control.home import Home
from control.machine.health import is_well
from control.machine.ports import PEERS_VARIABLE, read_ports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("process", help="as it is called in ./barmill run")


def run(args: argparse.Namespace) -> int:
    """Check on the process."""
    home = Home.find()
    ports = read_ports(home)
    if ports is None:
        raise UserError(f"{PEERS_VARIABLE} does not say where the processes are; on one machine, use ./barmill status.")
    return 0 if is_well(home, ports, args.process) else 1
