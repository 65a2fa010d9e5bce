"""Helpers of test_cluster.py that other tests use too."""

import uuid
from pathlib import Path

from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import wait_until
from control.flink.rest import FlinkRest

PROGRAMS = Path(__file__).parent.parent / "cluster" / "programs"


COUNTER, BROKEN, NO_PASSWORD = (PROGRAMS / f"{name}.py" for name in ("counter", "broken", "no_password"))


TIMEOUT_S = 60


def new_id() -> str:
    return uuid.uuid4().hex


def counter_spec(folder: Path, name: str = "counter") -> Path:
    path = folder / f"{name}.json"
    spec = BarsJobSpec(name=name, ticks_db=folder / "none", bars_db=folder / f"{name}.counts")
    path.write_text(spec.model_dump_json())
    return path


def start_counter(flink: FlinkRest, spec: Path, savepoint_path: str | None = None) -> str:
    arguments = ["--spec", str(spec)]
    return flink.submit(COUNTER, arguments, parallelism=1, job_id=new_id(), savepoint_path=savepoint_path)


def cancel(flink: FlinkRest, job_id: str) -> None:
    flink.cancel(job_id)
    assert wait_until(lambda: flink.job_state(job_id).is_terminal, TIMEOUT_S)
