"""`barmill up`: starts everything, says how far it is, and stays until Ctrl-C (or returns, with --detach)."""

import argparse
import fcntl
import html
import math
import os
import shutil
import signal
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bar.clock import now_ms
from cli.errors import UserError
from control.errors import ControlError
from control.home import Home
from control.kafka.artifacts import jars
from control.kafka.own import prepare
from control.kafka.settings import KafkaSettings
from control.machine.ports import LOOPBACK, PEERS_VARIABLE, Ports, choose_ports, is_free, read_ports
from control.machine.processes import Supervisor, SupervisorError
from control.machine.programs import cluster_of, programs, supervised_environment
from control.machine.readiness import Stage, stages
from control.people.first_admin import first_admin_link
from control.people.settings import SignInSettings, app_address
from control.settings_file import SettingsError
from control.waiting import wait_until
from feed.market.key import ensure_market_key
from feed.settings import FeedSettings

# A laptop with other things to do may take this long.
_TIMEOUT_S = 240.0
# What comes from the feed may take its time; the pages are useful without it.
_PATIENCE_S = 90.0
_MIN_FREE_BYTES = 300_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--port", type=_port, help="port of the pages on 127.0.0.1 (last time's, or 8501)")
    parser.add_argument("--detach", action="store_true", help="return when all is up; ./barmill down stops it")
    parser.add_argument(
        "--kafka",
        action="store_true",
        help="keep ticks and bars in Kafka, here unless kafka.json says where; from now on",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser window")


def run(args: argparse.Namespace) -> int:
    """Start everything."""
    home = Home.find()
    _check(home)
    home.create()
    with _only_one(home):
        supervisor = Supervisor(home)
        if supervisor.running:
            running = read_ports(home)
            if running is None:
                raise UserError("Barmill is running, but its folder run/ was deleted; ./barmill down stops it.")
            _say(f"Barmill is running already: {_url(running)}")
            _say_first_sign_in(home)
            return 0
        home.close_to_others()
        ports = _ports(home, args.port)
        try:
            feed = FeedSettings.read(home)
            SignInSettings.read(home)
            kafka = KafkaSettings.read(home)
        except SettingsError as error:
            raise UserError(str(error)) from error
        kafka = _prepared_kafka(home, ports, kafka, wanted=args.kafka)
        with _taken_down_unless_kept(supervisor) as keep:
            _start(home, ports, feed, kafka, supervisor, tied=not args.detach)
            _say(f"\n{_url(ports)}")
            first = _say_first_sign_in(home)
            if not args.no_browser:
                _open_browser(_unseen(home, first) if first else _url(ports))
            if args.detach:
                _say("Stop it with ./barmill down.")
                keep()
                return 0
            _say("Press Ctrl-C to stop.")
            wait_until(lambda: not supervisor.running, math.inf, every_s=1.0)
            raise UserError(f"The supervisor has ended; its log is {home.log / 'supervisord.log'}.")


def _prepared_kafka(home: Home, ports: Ports, kafka: KafkaSettings, *, wanted: bool) -> KafkaSettings:
    if not wanted and not kafka.used:
        return kafka
    if not jars("connector"):
        _say("Fetching what Kafka needs with Maven, this once.")
    try:
        return prepare(home, ports, kafka)
    except ControlError as error:
        raise UserError(str(error)) from error


def _start(
    home: Home, ports: Ports, feed: FeedSettings, kafka: KafkaSettings, supervisor: Supervisor, *, tied: bool
) -> None:
    started, since_ms = time.monotonic(), now_ms()
    _say(f"Starting Barmill; its data is in {home.root}")
    if feed.provider == "market":
        ensure_market_key(home)
    cluster_of(home, ports).write_files()
    supervised_environment(home)
    try:
        supervisor.start(programs(home, ports, feed, kafka), tied=tied)
        _await(stages(home, ports, feed, since_ms, kafka), home, started)
    except SupervisorError as error:
        raise UserError(str(error)) from error


def _await(wanted: Sequence[Stage], home: Home, started: float) -> None:
    """Wait for the stages, saying which has come up."""
    missing = list(wanted)
    width = max(len(stage.name) for stage in wanted)

    def look() -> bool:
        for stage in [one for one in missing if one.ready()]:
            missing.remove(stage)
            _say(f"  {stage.name:{width}}  up after {time.monotonic() - started:.1f} s")
        return not missing or (_seconds_since(started) > _PATIENCE_S and not any(stage.needed for stage in missing))

    if not wait_until(look, _TIMEOUT_S, every_s=0.2):
        stage = next(one for one in missing if one.needed)
        log = home.log / f"{stage.program}.log"
        raise UserError(f"The {stage.name} did not come up within {_TIMEOUT_S:.0f} s; the reason stands in {log}.")
    for stage in missing:
        why = stage.trouble() or f"See {home.log / stage.program}.log."
        _say(f"  {stage.name:{width}}  not yet. {why}")


def _check(home: Home) -> None:
    if os.environ.get(PEERS_VARIABLE):
        raise UserError(f"The processes are started one by one here, as {PEERS_VARIABLE} says; unset it to start all.")
    if any(character in str(home.root) for character in ":,;\n"):
        raise UserError(f"{home.root} has a character in its name that Flink cannot take; set BARMILL_HOME to another.")
    existing = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing} cannot be written to; set BARMILL_HOME to a folder of your own.")
    free = shutil.disk_usage(existing).free
    if free < _MIN_FREE_BYTES:
        raise UserError(
            f"The disk of {home.root} has only {free // 1_000_000} MB left; free some space, or set BARMILL_HOME"
            " to a folder on another disk."
        )


def _ports(home: Home, asked: int | None) -> Ports:
    ports = choose_ports(home, asked)
    if not is_free(ports.app):
        raise UserError(
            f"Port {ports.app} is in use by another program; choose another one, such as ./barmill up --port"
            f" {_free_near(ports.app)}."
        )
    return ports


def _free_near(port: int) -> int:
    return next(other for other in range(port + 1, 65_536) if is_free(other)) if port < 65_000 else 8_501


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    with (home.run / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ports = read_ports(home)
            at = f": {_url(ports)}" if ports and Supervisor(home).running else "; wait for it to be up."
            raise UserError(f"Another ./barmill up is at work on this home{at}") from None
        yield


@contextmanager
def _taken_down_unless_kept(supervisor: Supervisor) -> Iterator["_Keep"]:
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # the terminal was closed
    keep = _Keep()
    try:
        yield keep
    finally:
        if not keep.kept:
            # From here on an impatient second Ctrl-C must not leave half of it running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _say("\nStopping.")
            supervisor.stop()


class _Keep:
    kept = False

    def __call__(self) -> None:
        self.kept = True


def _say_first_sign_in(home: Home) -> str | None:
    """Print the link of the first admin, as long as no admin has a password; return it."""
    first = first_admin_link(home)
    if first is None:
        return None
    name, token = first
    link = app_address(home, f"/welcome?token={token}")
    _say(f"First choose a password for the account {name}, with this link; it works once, for a day:\n{link}")
    return link


def _unseen(home: Home, link: str) -> str:
    """Return an address that leads to the link: what a browser is started with, everybody on this machine can see."""
    page = home.run / "first-sign-in.html"
    page.touch(mode=0o600)
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(link)}">\n')
    return page.as_uri()


def _open_browser(url: str) -> None:
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def _url(ports: Ports) -> str:
    return f"http://{LOOPBACK}:{ports.app}"


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; take one from 1024 to 65535.")
    return port


def _seconds_since(started: float) -> float:
    return time.monotonic() - started


def _say(text: str) -> None:
    print(text, flush=True)
