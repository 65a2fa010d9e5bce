"""A client of the JobManager's REST API."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from barmill.platform.errors import redact
from barmill.platform.home import REPO_ROOT
from barmill.platform.locks import exclusive
from barmill.platform.ports import LOOPBACK
from barmill.platform.tls import TlsFiles
from control.flink.model import (
    Checkpoint,
    Checkpoints,
    ClusterOverview,
    ClusterUnreachableError,
    FlinkResponseError,
    Job,
    JobState,
    NoSuchFlinkJobError,
    SavepointState,
    SavepointStatus,
    SubmitFailedError,
    SubmitUnknownError,
    Vertex,
    cause_of,
    empty_jar,
)

TIMEOUT_S = 10.0
# The response to a submission comes after the program's main(), which takes long on a busy machine.
SUBMIT_TIMEOUT_S = 120.0
_JAR_NAME = "barmill-python-driver.jar"
_DRIVER = "org.apache.flink.client.python.PythonDriver"
# It gives the program the password of PyFlink's gateway.
_LAUNCHER = REPO_ROOT / "flink_jobs" / "launch.py"
_NO_SUCH_JOB = "FlinkJobNotFoundException"
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class FlinkRest:
    """The REST API of the JobManager at a host and port.

    lock: file that serialises submissions across processes, because Flink mixes up concurrent ones. tls: the
    certificate that the cluster and its clients share. python: the interpreter that runs the programs.

    Each request raises ClusterUnreachableError if the JobManager does not respond, NoSuchFlinkJobError if it does not
    know the job, and FlinkResponseError for any other error.
    """

    port: int
    lock: Path
    tls: TlsFiles
    python: str = sys.executable
    host: str = LOOPBACK
    _session: requests.Session = field(default_factory=requests.Session, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._session.trust_env = False  # the user's proxy must not see these calls
        self._session.cert = (str(self.tls.certificate), str(self.tls.key))
        self._session.verify = str(self.tls.certificate)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def overview(self) -> ClusterOverview:
        """Return the TaskManagers and slots of the cluster."""
        response = self._get("/overview")
        return ClusterOverview(response["taskmanagers"], response["slots-total"], response["slots-available"])

    def taskmanagers(self) -> int:
        """Return the number of registered TaskManagers; 0 if the request fails."""
        try:
            return self.overview().taskmanagers
        except (ClusterUnreachableError, FlinkResponseError):
            return 0

    def incarnation(self) -> str:
        """Return an id of this JobManager process. A new process has a new id and knows none of the earlier jobs."""
        settings = {setting["key"]: setting["value"] for setting in self._get("/jobmanager/config")}
        return str(settings["web.tmpdir"]).rpartition("/")[2]

    def jobs(self) -> list[Job]:
        """Return every job this JobManager knows, newest first."""
        jobs = [
            Job(
                job["jid"],
                job["name"],
                JobState.of(job["state"]),
                job["start-time"],
                job["end-time"] if job["end-time"] >= 0 else None,
            )
            for job in self._get("/jobs/overview")["jobs"]
        ]
        return sorted(jobs, key=lambda job: job.start_ms, reverse=True)

    def job_state(self, job_id: str) -> JobState:
        """Return the state of a job; raise NoSuchFlinkJobError if the JobManager does not know it."""
        return JobState.of(self._get(f"/jobs/{job_id}/status", job_id=job_id)["status"])

    def submit(
        self,
        program: Path,
        args: Sequence[str],
        *,
        parallelism: int,
        job_id: str,
        savepoint_path: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """Run a PyFlink program's main() on the cluster and return the id of the resulting job.

        job_id: 32 hex digits, never used before on this cluster. savepoint_path: the savepoint or checkpoint to start
        from; it is never deleted. Raise SubmitFailedError if the program fails, after cancelling the jobs that it
        started. Raise SubmitUnknownError if there is no response to the submission; look the job up before a retry. A
        job that started may still fail a moment later, for instance if the savepoint is unreadable.
        """
        request = {
            "entryClass": _DRIVER,
            "programArgsList": [
                *("-pyclientexec", self.python, "-pyexec", self.python, "-py", str(_LAUNCHER)),
                *(str(program), *args),
            ],
            "parallelism": parallelism,
            "jobId": job_id,
            "flinkConfiguration": dict(settings or {}),
        }
        if savepoint_path:
            request |= {"savepointPath": savepoint_path, "claimMode": "NO_CLAIM"}
        with self._submit_lock():
            jar = self._driver_jar()
            ids_before = {job.id for job in self.jobs()}
            try:
                response = self._call("POST", f"/jars/{jar}/run", json=request, timeout=SUBMIT_TIMEOUT_S)
            except ClusterUnreachableError as error:
                raise SubmitUnknownError(
                    "The JobManager did not confirm that the job started; check its state."
                ) from error
            except FlinkResponseError as error:
                self._cancel_strays(ids_before)
                traceback = self._driver_traceback()
                raise SubmitFailedError(cause_of(traceback) or str(error), traceback) from error
        return str(response["jobid"])

    def cancel(self, job_id: str) -> None:
        """Request the cancellation of a job; no effect on a job that has ended."""
        try:
            self._call("PATCH", f"/jobs/{job_id}?mode=cancel", job_id=job_id)
        except NoSuchFlinkJobError:
            raise
        except FlinkResponseError as error:
            if error.status != requests.codes.conflict:
                raise

    def stop_with_savepoint(self, job_id: str, directory: str, trigger_id: str) -> None:
        """Request that a job stops with a savepoint; repeating the request with the same trigger id is safe."""
        self._savepoint(job_id, "stop", {"targetDirectory": directory, "drain": False}, trigger_id)

    def take_savepoint(self, job_id: str, directory: str, trigger_id: str) -> None:
        """Request a savepoint of a job that keeps running; repeating the request with the same trigger id is safe."""
        self._savepoint(job_id, "savepoints", {"target-directory": directory, "cancel-job": False}, trigger_id)

    def savepoint_status(self, job_id: str, trigger_id: str) -> SavepointStatus:
        """Return the progress of the savepoint that was requested with this trigger id."""
        try:
            response = self._get(f"/jobs/{job_id}/savepoints/{trigger_id}", job_id=job_id)
        except NoSuchFlinkJobError:  # or it knows the job, but not the trigger id
            return SavepointStatus(SavepointState.UNKNOWN)
        if response["status"]["id"] == "IN_PROGRESS":
            return SavepointStatus(SavepointState.IN_PROGRESS)
        operation = response.get("operation") or {}
        if location := operation.get("location"):
            return SavepointStatus(SavepointState.COMPLETED, str(location))
        trace = (operation.get("failure-cause") or {}).get("stack-trace", "")
        return SavepointStatus(SavepointState.FAILED, cause=redact(cause_of(trace)) or "the cause is unknown")

    def vertices(self, job_id: str) -> list[Vertex]:
        """Return the parts of a job, from source to sink."""
        details = self._get(f"/jobs/{job_id}", job_id=job_id)
        requirements = self._get(f"/jobs/{job_id}/resource-requirements", job_id=job_id)
        return [
            Vertex(
                vertex["id"],
                vertex["name"],
                vertex["parallelism"],
                requirements[vertex["id"]]["parallelism"]["upperBound"],
                vertex["maxParallelism"],
            )
            for vertex in details["vertices"]
        ]

    def rescale(self, job_id: str, parallelism: Mapping[str, int]) -> None:
        """Set the maximum number of subtasks of each part of a job (all parts, by id).

        Each part gets at least 1, and more as far as slots are free.
        """
        # With a lower bound above the number of free slots, the job could not run at all after a restart.
        bounds = {
            vertex: {"parallelism": {"lowerBound": 1, "upperBound": subtasks}}
            for vertex, subtasks in parallelism.items()
        }
        self._send("PUT", f"/jobs/{job_id}/resource-requirements", job_id=job_id, json=bounds)

    def failure_cause(self, job_id: str) -> str:
        """Return the stack trace of the job's last failure or restart, redacted, or '' if none is known."""
        history = self._get(f"/jobs/{job_id}/exceptions?maxExceptions=1", job_id=job_id)
        entries = history.get("exceptionHistory", {}).get("entries", [])
        if entries:
            return redact(entries[0]["stacktrace"])
        # Some failures, such as an unreadable savepoint, appear only in the execution result, which exists only for
        # ended jobs.
        if not self.job_state(job_id).is_terminal:
            return ""
        result = self._get(f"/jobs/{job_id}/execution-result", job_id=job_id)
        cause = result.get("job-execution-result", {}).get("failure-cause") or {}
        return redact(cause.get("stack-trace", ""))

    def checkpoints(self, job_id: str) -> Checkpoints:
        """Return the checkpoint counts of a job and its latest completed checkpoint."""
        response = self._get(f"/jobs/{job_id}/checkpoints", job_id=job_id)
        counts, latest = response.get("counts", {}), (response.get("latest") or {}).get("completed")
        return Checkpoints(
            completed=counts.get("completed", 0),
            failed=counts.get("failed", 0),
            in_progress=counts.get("in_progress", 0),
            restored=counts.get("restored", 0),
            latest=_checkpoint(latest) if latest else None,
        )

    def jobmanager_log(self, name: str = "jobmanager.log") -> str:
        """Return one of the JobManager's log files, redacted."""
        return redact(self._send("GET", f"/jobmanager/logs/{name}").text)

    def _savepoint(self, job_id: str, path: str, request: dict[str, object], trigger_id: str) -> None:
        request |= {"formatType": "CANONICAL", "triggerId": trigger_id}
        self._call("POST", f"/jobs/{job_id}/{path}", job_id=job_id, json=request)

    def _driver_jar(self) -> str:
        """Return the id of the jar that every submit names, after uploading it if this JobManager lacks it."""
        for jar in self._get("/jars")["files"]:
            if jar["name"] == _JAR_NAME:
                return str(jar["id"])
        # PythonDriver is already in the cluster's class path; the API only requires the name of some jar.
        upload = {"jarfile": (_JAR_NAME, empty_jar(), "application/java-archive")}
        return str(self._call("POST", "/jars/upload", files=upload)["filename"]).rpartition("/")[2]

    def _cancel_strays(self, ids_before: set[str]) -> None:
        """Cancel jobs that a failed program left running: it may have started one job before it failed at the next."""
        for job in self.jobs():
            if job.id not in ids_before and not job.state.is_terminal:
                self.cancel(job.id)

    def _driver_traceback(self) -> str:
        """Return the program's last output before it failed; only the JobManager's log contains it."""
        try:
            return _last_program_output(self.jobmanager_log())
        except (ClusterUnreachableError, FlinkResponseError):
            return ""

    @contextmanager
    def _submit_lock(self) -> Iterator[None]:
        self.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(self.lock):
            yield

    def read(self, path: str, job_id: str | None = None) -> Any:
        """Return the JobManager's response to a GET request; see metrics.py."""
        return self._get(path, job_id)

    def _get(self, path: str, job_id: str | None = None) -> Any:
        return self._call("GET", path, job_id=job_id)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._send(method, path, **options).json()

    def _send(
        self, method: str, path: str, *, job_id: str | None = None, timeout: float = TIMEOUT_S, **options: Any
    ) -> requests.Response:
        try:
            response = self._session.request(
                method, f"https://{self.host}:{self.port}{path}", timeout=timeout, **options
            )
        except OSError as error:  # all errors of requests and a missing certificate file are OSErrors
            raise ClusterUnreachableError(f"The Flink JobManager on port {self.port} does not respond.") from error
        if response.ok:
            return response
        # Flink reports an unknown job as an internal error in some responses.
        if job_id and (response.status_code == requests.codes.not_found or _NO_SUCH_JOB in response.text):
            raise NoSuchFlinkJobError(response.status_code, f"The JobManager does not know job {job_id}.")
        raise FlinkResponseError(response.status_code, redact(_error_text(response)))


def _checkpoint(fields: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        id=fields["id"],
        path=fields["external_path"],
        at_ms=fields["latest_ack_timestamp"],
        duration_ms=fields["end_to_end_duration"],
        size_bytes=fields["state_size"],
    )


def _error_text(response: requests.Response) -> str:
    """Return the root cause from the Java stack trace in Flink's response."""
    try:
        errors = response.json().get("errors", [])
    except ValueError:
        return response.text
    return cause_of("\n".join(errors)) or f"HTTP {response.status_code}"


def _last_program_output(log: str) -> str:
    """Return the program's last output from the JobManager's log, where the driver writes it between two markers."""
    _, _, rest = log.rpartition("Python Process Started")
    output, _, _ = rest.partition("Python Process Exited")
    lines, in_output = list[str](), True
    for line in output.splitlines():
        if _LOG_LINE.match(line):
            in_output = _DRIVER in line  # following lines without a date belong to this one
            line = line.partition(" - ")[2]
        if in_output and line.strip("- "):
            lines.append(line)
    return "\n".join(lines)
