"""A real cluster and what its client says about it."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from barmill.model.job_spec import BarsJobSpec
from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, Ports, free_ports
from barmill.platform.process_table import Process, process
from barmill.platform.tls import TlsFiles
from control.flink.cluster import private_cluster
from control.flink.model import (
    ClusterUnreachableError,
    FlinkResponseError,
    JobState,
    NoSuchFlinkJobError,
    SubmitFailedError,
)
from control.flink.rest import FlinkRest
from control.processes.health import is_healthy
from tests.support.canary import leaks
from tests.support.cluster import BROKEN, COUNTER, NO_PASSWORD, TIMEOUT_S, cancel, counter_spec, new_id, start_counter


def counts(spec: Path) -> list[int]:
    target = BarsJobSpec.read(spec).bars_db
    return [int(line) for line in target.read_text().split()] if target.exists() else []


def flink_processes(home: Home) -> list[int]:
    """Return the ids of the JVMs whose configuration is in this home."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (command := _read(folder / "cmdline")):
            parts = command.split(b"\0")
            if parts[0].endswith(b"/java") and os.fsencode(home.flink / "conf") in parts:
                found.append(int(folder.name))
    return sorted(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def test_a_job_runs_checkpoints_and_goes_on_from_where_it_was(shared_flink: FlinkRest, tmp_path: Path) -> None:
    spec = counter_spec(tmp_path)
    first = start_counter(shared_flink, spec)
    assert wait_until(lambda: len(counts(spec)) > 0, TIMEOUT_S)
    assert shared_flink.job_state(first) is JobState.RUNNING
    [listed] = [job for job in shared_flink.jobs() if job.id == first]
    assert (listed.name, listed.end_ms) == ("counter", None)
    assert wait_until(lambda: shared_flink.checkpoints(first).latest is not None, TIMEOUT_S)
    assert wait_until(lambda: len(counts(spec)) > 20, TIMEOUT_S)
    assert wait_until(lambda: shared_flink.checkpoints(first).completed > 1, TIMEOUT_S)
    cancel(shared_flink, first)
    latest = shared_flink.checkpoints(first).latest
    assert latest

    before = len(counts(spec))
    second = start_counter(shared_flink, spec, latest.path)  # the checkpoint has outlived the cancelled job
    assert wait_until(lambda: len(counts(spec)) > before, TIMEOUT_S)
    assert 1 < counts(spec)[before] <= before + 1
    assert shared_flink.checkpoints(second).restored == 1
    cancel(shared_flink, second)
    shared_flink.cancel(second)  # again is no error
    assert shared_flink.failure_cause(second) == ""


def test_an_unreadable_checkpoint_fails_the_job_with_its_cause(shared_flink: FlinkRest, tmp_path: Path) -> None:
    folder = tmp_path / "chk-1"
    folder.mkdir()
    (folder / "_metadata").write_bytes(b"not a checkpoint")
    job = start_counter(shared_flink, counter_spec(tmp_path), folder.as_uri())
    assert wait_until(lambda: shared_flink.job_state(job) is JobState.FAILED, TIMEOUT_S)
    assert "checkpoint" in shared_flink.failure_cause(job).lower()


def test_a_failing_program_tells_why_without_its_secrets(shared_flink: FlinkRest) -> None:
    with pytest.raises(SubmitFailedError, match="ValueError: the frames are wrong") as failed:
        shared_flink.submit(BROKEN, ["raise"], parallelism=1, job_id=new_id())
    assert "broken.py" in failed.value.traceback
    assert "sup3r-s3cret" not in failed.value.traceback + str(failed.value)
    assert shared_flink.taskmanagers() == 1


def test_ports_of_pyflink_refuse_clients_without_the_password(shared_flink: FlinkRest) -> None:
    with pytest.raises(SubmitFailedError, match="gateway refused, callbacks refused"):
        shared_flink.submit(NO_PASSWORD, [], parallelism=1, job_id=new_id())


@pytest.mark.parametrize("arguments", [["exit"], ["--"], []])
def test_a_program_that_exits_does_not_take_the_cluster_with_it(shared_flink: FlinkRest, arguments: list[str]) -> None:
    incarnation = shared_flink.incarnation()
    if arguments != []:
        with pytest.raises(SubmitFailedError):
            shared_flink.submit(BROKEN, arguments, parallelism=1, job_id=new_id())
    else:  # a request whose arguments Flink's driver cannot even read
        bad = FlinkRest(shared_flink.port, shared_flink.lock, shared_flink.tls, python="")
        with pytest.raises(SubmitFailedError):
            bad.submit(Path(), [], parallelism=1, job_id=new_id())
        bad.close()
    assert shared_flink.incarnation() == incarnation


def test_what_a_failed_program_had_started_is_cancelled(shared_flink: FlinkRest) -> None:
    with pytest.raises(SubmitFailedError, match="second half"):
        shared_flink.submit(BROKEN, ["half"], parallelism=1, job_id=new_id())
    halves = [job.id for job in shared_flink.jobs() if job.name == "first half"]
    assert wait_until(lambda: all(shared_flink.job_state(half).is_terminal for half in halves), TIMEOUT_S)


def test_submits_from_several_sides_become_the_jobs_they_were_meant_to_be(
    shared_flink: FlinkRest, tmp_path: Path
) -> None:
    wanted = {new_id(): counter_spec(tmp_path, f"side-{number}") for number in range(3)}

    def submit(job_id: str) -> None:
        client = FlinkRest(shared_flink.port, shared_flink.lock, shared_flink.tls)
        client.submit(COUNTER, ["--spec", str(wanted[job_id])], parallelism=1, job_id=job_id)
        client.close()

    sides = [threading.Thread(target=submit, args=[job_id]) for job_id in wanted]
    for side in sides:
        side.start()
    for side in sides:
        side.join(120)
    names = {job.id: job.name for job in shared_flink.jobs() if job.id in wanted}
    assert names == {job_id: spec.stem for job_id, spec in wanted.items()}
    for job_id in wanted:
        cancel(shared_flink, job_id)


def test_the_driver_jar_is_uploaded_once(shared_flink: FlinkRest) -> None:
    for _ in range(2):
        with pytest.raises(SubmitFailedError):
            shared_flink.submit(BROKEN, ["exit"], parallelism=1, job_id=new_id())
    assert len(shared_flink.read("/jars")["files"]) == 1


def test_a_job_nobody_knows_is_its_own_error(shared_flink: FlinkRest) -> None:
    for ask in (shared_flink.job_state, shared_flink.cancel, shared_flink.checkpoints, shared_flink.failure_cause):
        with pytest.raises(NoSuchFlinkJobError):
            ask(new_id())
    with pytest.raises(FlinkResponseError):
        shared_flink.jobmanager_log("no-such.log")


def test_a_cluster_that_is_not_there_is_its_own_error(tmp_path: Path) -> None:
    [port] = free_ports(1)
    client = FlinkRest(port, tmp_path / "lock", TlsFiles(tmp_path))
    with pytest.raises(ClusterUnreachableError, match=str(port)):
        client.overview()
    assert client.taskmanagers() == 0
    client.close()


def test_the_flink_processes_see_nothing_of_our_environment(
    shared_flink: FlinkRest, shared_home: Home, tmp_path: Path
) -> None:
    job = start_counter(shared_flink, counter_spec(tmp_path))
    cancel(shared_flink, job)
    jvms = flink_processes(shared_home)
    assert len(jvms) == 2
    allowed = {
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "JAVA_HOME",
        "PYTHONPATH",
        "MALLOC_ARENA_MAX",
        "BARMILL_GATEWAY_PASSWORD_FILE",
    }
    for pid in jvms:
        entries = _read(Path(f"/proc/{pid}/environ")).decode().split("\0")
        names = {entry.partition("=")[0] for entry in entries if entry}
        assert {name for name in names if not name.startswith("FLINK_")} <= allowed
    # PyFlink would log all of it at every submit.
    assert "PYTHONPATH" not in shared_flink.jobmanager_log()


def test_everything_listens_on_loopback_only(shared_flink: FlinkRest, shared_home: Home) -> None:
    assert shared_flink.taskmanagers() == 1
    addresses = {address for address, _ in _listening(shared_home)}
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_every_port_refuses_a_client_without_the_certificate(shared_flink: FlinkRest, shared_home: Home) -> None:
    assert shared_flink.taskmanagers() == 1
    ports = {int(port, 16) for _, port in _listening(shared_home)}
    assert len(ports) >= 5  # REST, the RPC of both, blobs, and the data of the TaskManager
    assert {port: _answer(port, _no_certificate()) for port in ports} == dict.fromkeys(ports, "")
    assert {port: _answer(port, _stranger(shared_home)) for port in ports} == dict.fromkeys(ports, "")
    assert not any("200 OK" in _answer(port, None) for port in ports)  # without TLS
    assert "200 OK" in _answer(shared_flink.port, shared_flink.tls.client_context())


def test_the_health_check_of_a_container_has_the_certificate(shared_flink: FlinkRest, shared_home: Home) -> None:
    ports = Ports(app=0, market=0, jobmanager_rest=shared_flink.port, jobmanager_rpc=0)
    assert is_healthy(shared_home, ports, "jobmanager")
    assert is_healthy(shared_home, ports, "taskmanager")


def test_another_user_of_the_machine_cannot_submit(shared_flink: FlinkRest, shared_home: Home) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    command = [sys.executable, "-I", "-S", "-c", INTRUDER, str(shared_flink.port), str(shared_home.tls)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(asked.stdout) == ["certificate not readable", "submit refused"], asked.stderr


def test_the_password_of_the_keystores_is_in_the_configuration_only(shared_flink: FlinkRest, shared_home: Home) -> None:
    password = shared_home.tls.joinpath("password").read_text().strip()
    said = [json.dumps(shared_flink.read(path)) for path in ("/jobmanager/config", "/jobmanager/environment")]
    seen = [
        _read(Path(f"/proc/{pid}/{part}")) for pid in flink_processes(shared_home) for part in ("cmdline", "environ")
    ]
    assert leaks(password, shared_home.log, *said, *seen) == []
    configuration = shared_home.flink / "conf" / "config.yaml"
    assert leaks(password, configuration)
    assert configuration.stat().st_mode & 0o077 == 0


# Tries what another user could: to read the key, and to upload a program with whatever certificate it makes up.
INTRUDER = """
import encodings.idna, json, os, pwd, ssl, sys, urllib.request
from pathlib import Path
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
user = pwd.getpwnam("nobody")  # only from here on, as it may not be able to read this Python
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
done = []
try:
    list(Path(sys.argv[2]).iterdir())
except PermissionError:
    done.append("certificate not readable")
request = urllib.request.Request(f"https://127.0.0.1:{sys.argv[1]}/jars/upload", data=b"x", method="POST")
try:
    urllib.request.urlopen(request, context=context, timeout=10)
except OSError as error:
    if not hasattr(error, "code"):
        done.append("submit refused")
print(json.dumps(done))
"""


def _no_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _stranger(home: Home) -> ssl.SSLContext:
    """Return a client that has a certificate, of another home."""
    other = ensure_certificate(Home(home.root.parent / "stranger"))
    context = _no_certificate()
    context.load_cert_chain(other.certificate, other.key)
    return context


def _answer(port: int, context: ssl.SSLContext | None) -> str:
    """Return what a port answers to a question in HTTP, or '' if it ends the connection without a word."""
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK) if context else plain as connection,
        ):
            connection.sendall(b"GET /overview HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n")
            return connection.recv(1_000).decode("latin-1")
    except (ssl.SSLError, ConnectionError):
        return ""


def _listening(home: Home) -> set[tuple[str, str]]:
    """Return address and port, both in hexadecimal, of every socket that the home's Flink listens on."""
    inodes = {inode for pid in flink_processes(home) for inode in _socket_inodes(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, port))
    return found


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(path.readlink()))
    return {link.removeprefix("socket:[").removesuffix("]") for link in found if link.startswith("socket:[")}


def test_no_page_from_elsewhere_may_talk_to_the_cluster(shared_flink: FlinkRest) -> None:
    answer = requests.get(
        f"https://{LOOPBACK}:{shared_flink.port}/overview",
        headers={"Origin": "http://elsewhere.example"},
        cert=(str(shared_flink.tls.certificate), str(shared_flink.tls.key)),
        verify=str(shared_flink.tls.certificate),
        timeout=10,
    )
    assert answer.headers.get("Access-Control-Allow-Origin") not in ("*", "http://elsewhere.example")


HOLDER = """
import json, sys
from pathlib import Path
from control.flink.cluster import private_cluster
from barmill.platform.home import Home
from barmill.platform.tls import TlsFiles
with private_cluster(Home(Path(sys.argv[1])), slots=1) as flink:
    print(json.dumps(flink.port), flush=True)
    input()
"""


def test_a_private_cluster_is_gone_with_its_process_even_if_that_is_killed(home: Home) -> None:
    command = [sys.executable, "-c", HOLDER, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        port = json.loads(holder.stdout.readline())
        jvms = [running for pid in flink_processes(home) if (running := process(pid))]
        assert len(jvms) == 2
        holder.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not any(process.alive for process in jvms), TIMEOUT_S)
    with pytest.raises(ClusterUnreachableError):
        FlinkRest(port, home.run / "lock", TlsFiles(home.tls)).overview()


def test_a_private_cluster_is_gone_after_an_error_in_its_block(home: Home) -> None:
    jvms: list[Process] = []

    def fail_inside() -> None:
        with private_cluster(home, slots=1):
            jvms.extend(running for pid in flink_processes(home) if (running := process(pid)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert len(jvms) == 2
    assert not any(process.alive for process in jvms)
