"""`barmill run`: run one of the processes that `up` supervises, as the main process of a container."""

import argparse
import os
from typing import NoReturn

from barmill.auth.administration import ensure_first_admin
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import PEERS_VARIABLE, Ports, read_ports
from cli.common import UserError
from control.processes.supervisor import restricted_command
from control.system.readiness import backfill_days, cluster_of, programs, set_child_environment

_FLINK_PROCESSES = ("jobmanager", "taskmanager")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("process", help="such as jobmanager, taskmanager, market, ingest, controller or app")


def run(args: argparse.Namespace) -> int:
    """Replace this process with the program, without returning; raise UserError if that is impossible."""
    home, ports = Home.find().create(), read_ports(Home.find())
    if ports is None:
        raise UserError(
            f"{PEERS_VARIABLE} does not contain the addresses of the processes; on one machine, use ./barmill up."
        )
    return _exec_program(args.process, home, ports)


def _exec_program(name: str, home: Home, ports: Ports) -> NoReturn:
    feed, kafka = FeedSettings.read(home), KafkaSettings.read(home)
    available = {program.name: program for program in programs(home, ports, feed, kafka, backfill_days(home))}
    if name not in available:
        raise UserError(f"This home has no process {name}; choose one of {', '.join(available)}.")
    set_child_environment(home)
    os.umask(0o077)
    if name in _FLINK_PROCESSES:
        cluster_of(home, ports).write_files()
    if name == "app" and (admin := ensure_first_admin(home)):
        print(
            f"No account has a password yet. Print a link for {admin} to choose one:\n"
            f"docker compose exec app ./barmill user link {admin}",
            flush=True,
        )
    program = available[name]
    command = restricted_command(program)
    os.chdir(program.folder)
    os.execv(command[0], command)
