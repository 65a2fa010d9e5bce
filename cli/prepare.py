"""`barmill prepare`: what `up` does before it starts anything, for processes that are started one by one.

Safe to repeat, also while they run.
"""

import argparse
import os

from cli.errors import UserError
from control.home import Home
from control.kafka.settings import KafkaSettings
from control.machine.certificates import ensure_certificate
from control.machine.ports import PEERS_VARIABLE, read_ports
from control.people.first_admin import first_admin
from feed.market.key import ensure_market_key
from feed.settings import FeedSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--profiles",
        default="",
        help="those of Docker Compose, with commas between; with `kafka` among them, ticks and bars go over the broker"
        f" that {PEERS_VARIABLE} names",
    )


def run(args: argparse.Namespace) -> int:
    """Make the home ready."""
    os.umask(0o077)
    home, ports = Home.find().create(), read_ports(Home.find())
    if ports is None:
        raise UserError(f"{PEERS_VARIABLE} does not say where the processes are; on one machine, use ./barmill up.")
    home.close_to_others()
    if FeedSettings.read(home).provider == "market":
        ensure_market_key(home)
    if "kafka" in args.profiles.split(",") and not KafkaSettings.read(home).used:
        KafkaSettings.write(home, KafkaSettings(bootstrap=f"{ports.kafka_host}:{ports.kafka}"))
    ensure_certificate(home, ports.jobmanager_host)
    first_admin(home)
    print(f"The home {home.root} is ready.")
    return 0
