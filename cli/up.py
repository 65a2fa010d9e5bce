"""`barmill up`: start all processes, show the progress, and run until Ctrl-C; with --detach, until they are up."""

import argparse
import html
import math
import os
import re
import shutil
import signal
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from barmill.auth.administration import first_admin_link
from barmill.auth.settings import SignInSettings, app_address
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.locks import exclusive
from barmill.platform.ports import LOOPBACK, PEERS_VARIABLE, Ports, choose_ports, is_free, read_ports
from barmill.platform.settings_file import SettingsError
from barmill.simulator.access import ensure_market_key
from cli.common import UserError
from control.flink.class_archive import write_in_background
from control.kafka.artifacts import jars
from control.kafka.broker import prepare
from control.processes.supervisor import Supervisor, SupervisorError
from control.system.readiness import Stage, backfill_days, cluster_of, programs, set_child_environment, stages

# The start may take this long on a busy laptop.
_TIMEOUT_S = 240.0
# After this time, the command no longer waits for parts that are not required; the pages are useful without them.
_OPTIONAL_TIMEOUT_S = 90.0
_MIN_FREE_BYTES = 300_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--port", type=_port, help="port of the pages on 127.0.0.1 (default: the last one, or 8501)")
    parser.add_argument(
        "--detach", action="store_true", help="return once all processes are up; stop them with ./barmill down"
    )
    parser.add_argument(
        "--kafka",
        action="store_true",
        help="use Kafka from now on, with a local broker or the one in kafka.json; existing jobs do not change",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")


def run(args: argparse.Namespace) -> int:
    """Start all processes; return when they are stopped or, with --detach, when they are up."""
    home = Home.find()
    _check_home(home)
    home.create()
    with _start_lock(home):
        supervisor = Supervisor(home)
        if supervisor.running:
            running = read_ports(home)
            if running is None:
                raise UserError("Barmill is running, but its folder run/ was deleted; ./barmill down stops it.")
            _print(f"Barmill is already running: {_url(running)}")
            _print_first_sign_in(home)
            return 0
        home.make_private()
        ports = _ports(home, args.port)
        try:
            feed = FeedSettings.read(home)
            SignInSettings.read(home)
            kafka = KafkaSettings.read(home)
        except SettingsError as error:
            raise UserError(str(error)) from error
        kafka = _prepare_kafka(home, ports, kafka, enable=args.kafka)
        with _stop_unless_kept(supervisor) as keep:
            _start(home, ports, feed, kafka, supervisor, ends_with_parent=not args.detach)
            _print(f"\n{_url(ports)}")
            link = _print_first_sign_in(home)
            if not args.no_browser:
                _open_browser(_redirect_page(home, link) if link else _url(ports))
            if args.detach:
                _print("Stop it with ./barmill down.")
                keep()
                return 0
            _print("Press Ctrl-C to stop.")
            wait_until(lambda: not supervisor.running, math.inf, every_s=1.0)
            if supervisor.stopped_on_request:
                keep()
                _print("Barmill was stopped by ./barmill down.")
                return 0
            raise UserError(f"The supervisor has ended; see {home.log / 'supervisord.log'}.")


def _prepare_kafka(home: Home, ports: Ports, kafka: KafkaSettings, *, enable: bool) -> KafkaSettings:
    if not enable and not kafka.is_used:
        return kafka
    if not jars("connector"):
        _print("Fetching Kafka with Maven; later starts skip this.")
    try:
        return prepare(home, ports, kafka)
    except ControlError as error:
        raise UserError(str(error)) from error


def _start(
    home: Home,
    ports: Ports,
    feed: FeedSettings,
    kafka: KafkaSettings,
    supervisor: Supervisor,
    *,
    ends_with_parent: bool,
) -> None:
    started_s, since_ms = time.monotonic(), now_ms()
    _print(f"Starting Barmill; its data is in {home.root}")
    if feed.provider == "market":
        ensure_market_key(home)
    cluster_of(home, ports).write_files()
    set_child_environment(home)
    try:
        supervisor.start(programs(home, ports, feed, kafka, backfill_days(home)), ends_with_parent=ends_with_parent)
        _wait_for_stages(stages(home, ports, feed, since_ms, kafka), home, started_s)
        write_in_background("cluster")
    except SupervisorError as error:
        raise UserError(str(error)) from error


def _wait_for_stages(all_stages: Sequence[Stage], home: Home, started_s: float) -> None:
    """Wait for the stages, and print when each is ready. Raise UserError if a required one is not ready in time."""
    pending = list(all_stages)
    width = max(len(stage.name) for stage in all_stages)

    def poll() -> bool:
        for stage in [waiting for waiting in pending if waiting.is_ready()]:
            pending.remove(stage)
            _print(f"  {stage.name:{width}}  up after {_seconds_since(started_s):.1f} s")
        return not pending or (
            _seconds_since(started_s) > _OPTIONAL_TIMEOUT_S and not any(stage.is_required for stage in pending)
        )

    if not wait_until(poll, _TIMEOUT_S, every_s=0.2):
        stage = next(waiting for waiting in pending if waiting.is_required)
        log = home.log / f"{stage.program}.log"
        raise UserError(f"The {stage.name} did not start within {_TIMEOUT_S:.0f} s; see {log}.")
    for stage in pending:
        problem = stage.problem() or f"See {home.log / stage.program}.log."
        _print(f"  {stage.name:{width}}  not ready yet. {problem}")


def _check_home(home: Home) -> None:
    if os.environ.get(PEERS_VARIABLE):
        raise UserError(f"{PEERS_VARIABLE} is set, so the processes are started separately; unset it to start all.")
    if any(character in str(home.root) for character in ":,;\n"):
        raise UserError(
            f"{home.root} contains a character that Flink does not accept; set BARMILL_HOME to another folder."
        )
    existing = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing} is not writable; set BARMILL_HOME to a folder that you can write to.")
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < _MIN_FREE_BYTES:
        raise UserError(
            f"The disk of {home.root} has only {free_bytes // 1_000_000} MB left; free some space, or set BARMILL_HOME"
            " to a folder on another disk."
        )


def _ports(home: Home, requested: int | None) -> Ports:
    ports = choose_ports(home, requested)
    if not is_free(ports.app):
        raise UserError(
            f"Port {ports.app} is in use by another program; choose another one, such as ./barmill up --port"
            f" {_free_port_after(ports.app)}."
        )
    return ports


def _free_port_after(port: int) -> int:
    return next(other for other in range(port + 1, 65_536) if is_free(other)) if port < 65_000 else 8_501


@contextmanager
def _start_lock(home: Home) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(home.run / "up.lock", wait=False))
        except BlockingIOError:
            ports = read_ports(home)
            detail = f": {_url(ports)}" if ports and Supervisor(home).running else "; wait until it has finished."
            raise UserError(f"Another ./barmill up is running on this home{detail}") from None
        yield


@contextmanager
def _stop_unless_kept(supervisor: Supervisor) -> Iterator["_KeepRunning"]:
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # sent when the terminal is closed
    keep = _KeepRunning()
    try:
        yield keep
    finally:
        if not keep.kept:
            # From here on, a second Ctrl-C must not leave some processes running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _print("\nStopping.")
            supervisor.stop()


class _KeepRunning:
    kept = False

    def __call__(self) -> None:
        self.kept = True


def _print_first_sign_in(home: Home) -> str | None:
    """Print and return the link of the first admin; None once an admin can sign in."""
    account_and_token = first_admin_link(home)
    if account_and_token is None:
        return None
    name, token = account_and_token
    link = app_address(home, f"/welcome?token={token}")
    _print(f"Choose a password for the account {name} with this link; it works once and expires after a day:\n{link}")
    return link


def _redirect_page(home: Home, link: str) -> str:
    """Return the URL of a private file that redirects to the link, since other users can see a browser's arguments."""
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
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; use one from 1 to 65535.")
    return int(text)


def _seconds_since(started_s: float) -> float:
    return time.monotonic() - started_s


def _print(text: str) -> None:
    print(text, flush=True)
