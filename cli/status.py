"""`barmill status`: show processes, memory, jobs, the flow of prices, and problems."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from barmill.model.frames import Frame
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarReader
from cli.common import UserError
from cli.feed import feed_lines
from control.freshness.flow import Backfill, Flow, backfill_of
from control.freshness.judge import Freshness, Level
from control.freshness.reading import freshness_by_frame, offered_frames, read_flow
from control.monitoring.alerts import Alert, open_alerts
from control.processes.supervisor import SupervisorError
from control.system.status import SystemStatus, read_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the status; return 0 only if it is healthy."""
    home = Home.find()
    try:
        status = read_status(home)
    except SupervisorError as error:
        raise UserError(str(error)) from error
    # Only the controller clears alerts, so stored alerts may be out of date if it is not running.
    alerts = open_alerts(home) if status.running else []
    flow = read_flow(home) if status.running else None
    frames = _frames(home, flow) if flow else {}
    backfill = backfill_of(flow) if flow else None
    if args.json:
        print(json.dumps(_as_json(status, alerts, frames, backfill), indent=2))
    else:
        print(_as_text(status, alerts, frames, backfill))
    return 0 if status.healthy else 1


Frames = Mapping[Frame, Freshness]


def _frames(home: Home, flow: Flow) -> Frames:
    """Return the freshness of each frame that users can open; empty without a bar store."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return freshness_by_frame(flow, offered_frames(reader))
    return {}


def _as_json(
    status: SystemStatus, alerts: Sequence[Alert], frames: Frames, backfill: Backfill | None
) -> dict[str, object]:
    processes = [
        {
            "name": process.name,
            "state": process.state,
            "pid": process.pid,
            "resident_mb": round(process.resident_bytes / 1e6),
            "uptime_s": process.uptime_s,
        }
        for process in status.processes
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
        "history": status.history.as_json() if status.history else None,
        "feeds": [view.as_json() for view in status.feeds],
        "backfill": backfill.as_json() if backfill else None,
        "frames": [{"frame": frame.text, **freshness.as_json()} for frame, freshness in frames.items()],
        "alerts": [asdict(alert) for alert in alerts],
    }


def _frame_lines(frames: Frames) -> list[str]:
    """Return one line for all live frames and one for each other frame.

    If no frame is live and all have the same sentence, return only this sentence.
    """
    live = [frame.text for frame, freshness in frames.items() if freshness.level is Level.LIVE]
    lines = [f"bars of {', '.join(live)}: live"] if live else []
    sentences = {freshness.sentence for freshness in frames.values()}
    if not live and len(sentences) == 1:
        return [f"bars: {sentences.pop()}"]
    return lines + [
        f"bars of {frame.text}: {freshness.level.value}. {freshness.sentence}"
        for frame, freshness in frames.items()
        if freshness.level is not Level.LIVE
    ]


def _as_text(status: SystemStatus, alerts: Sequence[Alert], frames: Frames, backfill: Backfill | None) -> str:
    if not status.running:
        return "Barmill is not running; start it with ./barmill up."
    lines = [f"{status.url}   data in {status.home}", ""]
    if status.unsupervised:
        lines += ["The processes were started separately, as containers; docker compose ps lists them.", ""]
    lines += [
        f"{process.name:12} {process.state.lower():9} pid {process.pid or '-':<8}"
        f" {process.resident_bytes / 1e6:6.0f} MB   up {_duration(process.uptime_s)}"
        for process in status.processes
    ]
    if status.processes:
        lines += [f"{'total':12} {'':22} {status.resident_bytes / 1e6:6.0f} MB", ""]
    lines += [f"disk: {status.disk_problem}"] if status.disk_problem else []
    lines += [f"job {job.name}: {job.sentence}" for job in status.jobs]
    age = "none yet" if status.newest_tick_age_s is None else f"{status.newest_tick_age_s:.1f} s ago"
    lines.append(f"ticks: {status.ticks_per_s:,.1f} per second; newest tick in the bars: {age}")
    lines += [backfill.sentence] if backfill and not backfill.is_complete else []
    lines += _frame_lines(frames)
    lines += [f"feed {line}" for line in feed_lines(status.feeds)]
    if status.damage:
        lines.append(f"damage: {status.damage}")
    if status.history and status.history.sentence:
        lines.append(f"history: {status.history.sentence}")
    if status.kafka_problem:
        lines.append(f"Kafka: {status.kafka_problem}")
    lines += [f"{alert.severity}: {alert.sentence}" for alert in alerts]
    return "\n".join(lines)


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    parts_text = [f"{value} {unit}" for value, unit in parts if value][:2]
    return " ".join(parts_text) or "0 s"
