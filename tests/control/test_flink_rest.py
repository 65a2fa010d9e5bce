"""How the client reads what Flink says; everything else about it is tested on a real cluster (tests/cluster)."""

import gc
import select
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from barmill.platform.certificates import ensure_certificate
from barmill.platform.home import Home
from control.flink.model import ClusterUnreachableError, JobState, cause_of
from control.flink.rest import FlinkRest, _last_program_output

LOG = """\
2026-11-23T22:00:00.000Z INFO  org.apache.flink.client.python.PythonDriver - -------- Python Process Started --------
2026-11-23T22:00:00.100Z INFO  org.apache.flink.client.python.PythonDriver - an earlier program
2026-11-23T22:00:00.200Z INFO  org.apache.flink.client.python.PythonDriver - -------- Python Process Exited --------
2026-11-23T22:00:01.000Z INFO  org.apache.flink.client.python.PythonDriver - -------- Python Process Started --------
2026-11-23T22:00:01.100Z INFO  org.apache.flink.client.python.PythonDriver - Traceback (most recent call last):
2026-11-23T22:00:01.100Z INFO  org.apache.flink.client.python.PythonDriver -   File "job.py", line 3, in <module>
2026-11-23T22:00:01.200Z INFO  org.apache.flink.runtime.resourcemanager.ResourceManager - Freeing slot 27.
\tat somewhere.else(Else.java:1)
2026-11-23T22:00:01.300Z INFO  org.apache.flink.client.python.PythonDriver - ValueError: no frames
and a second line
2026-11-23T22:00:01.400Z INFO  org.apache.flink.client.python.PythonDriver - -------- Python Process Exited --------
2026-11-23T22:00:01.500Z ERROR org.apache.flink.client.python.PythonDriver - Run python process failed
"""


def test_the_last_programs_own_words_are_cut_out_of_the_log() -> None:
    assert _last_program_output(LOG).splitlines() == [
        "Traceback (most recent call last):",
        '  File "job.py", line 3, in <module>',
        "ValueError: no frames",
        "and a second line",
    ]


def test_a_log_without_a_program_gives_nothing() -> None:
    assert _last_program_output("") == ""
    assert _last_program_output("2026-11-23T22:00:00.000Z INFO  x - started\n") == ""


def test_the_cause_is_the_deepest_one_of_a_java_trace() -> None:
    trace = "a.Outer: failed\n\tat x.Y(Y.java:1)\nCaused by: b.Inner: disk gone\n\t... 3 more\n"
    assert cause_of(
        f"Internal server error.\n<Exception on server side:\n{trace}\nEnd of exception on server side>"
    ) == ("b.Inner: disk gone")


def test_the_cause_of_a_python_trace_is_its_last_line() -> None:
    assert cause_of('Traceback (most recent call last):\n  File "x"\nValueError: no\n') == "ValueError: no"
    assert cause_of("") == ""


def test_every_state_has_a_sentence_and_unknown_words_are_unknown() -> None:
    assert all(state.sentence.endswith(".") for state in JobState)
    assert JobState.of("SOMETHING_NEW") is JobState.UNKNOWN
    assert {state.name for state in JobState if state.is_terminal} == {"FAILED", "CANCELED", "FINISHED"}


def test_a_reset_before_the_handshake_leaves_no_socket_open(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    wrap_socket = ssl.SSLContext.wrap_socket
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reset_first(context: ssl.SSLContext, sock: socket.socket, *given: Any, **named: Any) -> ssl.SSLSocket:
            accepted, _ = listening.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()  # with this option, it sends a reset
            arrived = select.poll()
            arrived.register(sock, select.POLLHUP)
            assert arrived.poll(10_000)
            return wrap_socket(context, sock, *given, **named)

        client = FlinkRest(listening.getsockname()[1], home.run / "lock", ensure_certificate(home))
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", reset_first)
        before = _sockets()
        with pytest.raises(ClusterUnreachableError):
            client.overview()
        client.close()
        gc.collect()  # the error refers to itself; see tests/conftest.py
        assert _sockets() == before


def _sockets() -> set[str]:
    """Return the open sockets of this process."""
    links = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of the folder itself
            links.add(str(path.readlink()))
    return {link for link in links if link.startswith("socket:")}
