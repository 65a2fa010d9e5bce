"""`barmill status`: what runs, how much memory it holds, how the job is, whether prices flow, and what is wrong."""

import argparse
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict

from bar.frames import Frame
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from cli.errors import UserError
from cli.feed import feed_lines
from control.freshness.frames import of_frames, offered_frames
from control.freshness.judge import Freshness, Level
from control.freshness.reading import read_flow
from control.home import Home
from control.machine.processes import SupervisorError
from control.machine.system_status import SystemStatus, look
from control.monitor.alerts import Alert, open_alerts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the status; the exit code is 0 only when everything runs."""
    home = Home.find()
    try:
        status = look(home)
    except SupervisorError as error:
        raise UserError(str(error)) from error
    # Without a controller nobody clears an alert, so what was open when it stopped says nothing about now.
    alerts = open_alerts(home) if status.running else []
    frames = _frames(home) if status.running else {}
    print(json.dumps(_as_json(status, alerts, frames), indent=2) if args.json else _as_text(status, alerts, frames))
    return 0 if status.healthy else 1


Frames = Mapping[Frame, Freshness]


def _frames(home: Home) -> Frames:
    """Return how fresh each frame is that can be opened; none without bars."""
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            frames = offered_frames(reader)
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return {}
    return of_frames(read_flow(home), frames)


def _as_json(status: SystemStatus, alerts: Sequence[Alert], frames: Frames) -> dict[str, object]:
    processes = [
        {
            "name": one.name,
            "state": one.state,
            "pid": one.pid,
            "resident_mb": round(one.resident_bytes / 1e6),
            "uptime_s": one.uptime_s,
        }
        for one in status.processes
    ]
    return {
        "running": status.running,
        "healthy": status.healthy,
        "url": status.url,
        "home": str(status.home),
        "processes": processes,
        "resident_mb": round(status.resident_bytes / 1e6),
        "jobs": [job.as_json() for job in status.jobs],
        "ticks_per_s": status.ticks_per_s,
        "newest_tick_age_s": status.newest_tick_age_s,
        "feed_problem": status.feed_problem,
        "disk_problem": status.disk_problem,
        "kafka_problem": status.kafka_problem,
        "damage": status.damage,
        "feeds": [view.as_json() for view in status.feeds],
        "frames": [{"frame": frame.text, **fresh.as_json()} for frame, fresh in frames.items()],
        "alerts": [asdict(alert) for alert in alerts],
    }


def _frame_lines(frames: Frames) -> list[str]:
    """Return a line for the frames that move, and one for each that does not."""
    live = [frame.text for frame, fresh in frames.items() if fresh.level is Level.LIVE]
    lines = [f"bars of {', '.join(live)}: live"] if live else []
    said = {fresh.sentence for fresh in frames.values()}
    if not live and len(said) == 1:
        return [f"bars: {said.pop()}"]
    return lines + [
        f"bars of {frame.text}: {fresh.level.value}. {fresh.sentence}"
        for frame, fresh in frames.items()
        if fresh.level is not Level.LIVE
    ]


def _as_text(status: SystemStatus, alerts: Sequence[Alert], frames: Frames) -> str:
    if not status.running:
        return "Barmill is not running; start it with ./barmill up."
    lines = [f"{status.url}   data in {status.home}", ""]
    if status.unsupervised:
        lines += ["The processes were started one by one, as containers; docker compose ps lists them.", ""]
    lines += [
        f"{one.name:12} {one.state.lower():9} pid {one.pid or '-':<8} {one.resident_bytes / 1e6:6.0f} MB"
        f"   up {_duration(one.uptime_s)}"
        for one in status.processes
    ]
    if status.processes:
        lines += [f"{'together':12} {'':22} {status.resident_bytes / 1e6:6.0f} MB", ""]
    lines += [f"disk: {status.disk_problem}"] if status.disk_problem else []
    lines += [f"job {job.name}: {job.sentence}" for job in status.jobs]
    age = "none yet" if status.newest_tick_age_s is None else f"{status.newest_tick_age_s:.1f} s ago"
    lines.append(f"ticks: {status.ticks_per_s:,.1f} a second; newest in the bars: {age}")
    lines += _frame_lines(frames)
    lines += [f"feed {line}" for line in feed_lines(status.feeds)]
    if status.damage:
        lines.append(f"damage: {status.damage}")
    if status.kafka_problem:
        lines.append(f"Kafka: {status.kafka_problem}")
    lines += [f"{alert.severity}: {alert.sentence}" for alert in alerts]
    return "\n".join(lines)


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    shown = [f"{value} {unit}" for value, unit in parts if value][:2]
    return " ".join(shown) or "0 s"
