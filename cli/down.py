"""`barmill down`: stops everything of this home."""

import argparse

from control.home import Home
from control.machine.processes import Supervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""


def run(_args: argparse.Namespace) -> int:
    """Stop everything, also what a killed supervisor left behind."""
    supervisor = Supervisor(Home.find())
    was_running = supervisor.running
    killed = supervisor.stop()
    if killed:
        print(f"Everything is stopped; {', '.join(killed)} did not stop when asked and had to be killed.")
    else:
        print("Everything is stopped." if was_running else "Barmill was not running.")
    return 0
