"""`barmill prepare`: the preparations of `up`, for processes that are started separately.

It can be repeated, even while the processes run.
"""

import argparse
import os

from barmill.auth.administration import ensure_first_admin
from barmill.platform.certificates import ensure_certificate
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import PEERS_VARIABLE, read_ports
from barmill.simulator.access import ensure_market_key
from cli.common import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--profiles",
        default="",
        help="the Docker Compose profiles, separated by commas; with `kafka`, ticks and bars go through the broker"
        f" that {PEERS_VARIABLE} names",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the home and return the exit code."""
    os.umask(0o077)
    home, ports = Home.find().create(), read_ports(Home.find())
    if ports is None:
        raise UserError(
            f"{PEERS_VARIABLE} does not contain the addresses of the processes; on one machine, use ./barmill up."
        )
    home.make_private()
    if FeedSettings.read(home).provider == "market":
        ensure_market_key(home)
    if "kafka" in args.profiles.split(",") and not KafkaSettings.read(home).is_used:
        KafkaSettings.write(home, KafkaSettings(bootstrap=f"{ports.kafka_host}:{ports.kafka}"))
    ensure_certificate(home, ports.jobmanager_host)
    ensure_first_admin(home)
    print(f"The home {home.root} is ready.")
    return 0
