"""`barmill run`: becomes one of the processes that `up` would supervise, for a container to hold."""

import argparse
import os
from typing import NoReturn

from cli.errors import UserError
from control.home import Home
from control.kafka.settings import KafkaSettings
from control.machine.ports import PEERS_VARIABLE, Ports, read_ports
from control.machine.processes import bare
from control.machine.programs import cluster_of, programs, supervised_environment
from control.people.first_admin import first_admin
from feed.settings import FeedSettings

_OF_THE_CLUSTER = ("jobmanager", "taskmanager")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("process", help="such as jobmanager, taskmanager, market, ingest, controller or app")


def run(args: argparse.Namespace) -> int:
    """Become the process; return only if that cannot be."""
    home, ports = Home.find().create(), read_ports(Home.find())
    if ports is None:
        raise UserError(f"{PEERS_VARIABLE} does not say where the processes are; on one machine, use ./barmill up.")
    return _become(args.process, home, ports)


def _become(name: str, home: Home, ports: Ports) -> NoReturn:
    known = {one.name: one for one in programs(home, ports, FeedSettings.read(home), KafkaSettings.read(home))}
    if name not in known:
        raise UserError(f"This home has no process {name}; it has {', '.join(known)}.")
    supervised_environment(home)
    os.umask(0o077)
    if name in _OF_THE_CLUSTER:
        cluster_of(home, ports).write_files()
    if name == "app" and (admin := first_admin(home)):
        print(
            f"Nobody can sign in yet. Print a link with which {admin} chooses a password:\n"
            f"docker compose exec app ./barmill user link {admin}",
            flush=True,
        )
    program = known[name]
    command = bare(program)
    os.chdir(program.folder)
    os.execv(command[0], command)
