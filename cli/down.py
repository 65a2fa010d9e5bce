"""`barmill down`: stop all processes of this home."""

import argparse

from barmill.platform.home import Home
from control.processes.supervisor import Supervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""


def run(_args: argparse.Namespace) -> int:
    """Stop all processes, including those that a killed supervisor left running, and return 0."""
    supervisor = Supervisor(Home.find())
    was_running = supervisor.running
    killed = supervisor.stop()
    if killed:
        print(f"Everything is stopped; {', '.join(killed)} did not stop in time and had to be killed.")
    else:
        print("Everything is stopped." if was_running else "Barmill was not running.")
    return 0
