"""The program that runs a command which ends with its parent process, and writes the command's process id to a file.

    python -I tether.py METHOD SIGNAL PARENT_PID PID_FILE COMMAND...

METHOD: "kernel" (Linux only) or "pipe". SIGNAL: sent to the command when its parent dies, or 0. PARENT_PID: the
parent's id, or 0 if the caller cannot know it. PID_FILE: where to write process id and start time, or "-".

A killed supervisor or replay cannot clean up its children. On Linux the kernel can. Elsewhere the standard input must
be a pipe whose other end only the parent has open: it ends with the parent, and a small process that watches it then
sends the signal. In that case, the command itself gets an empty standard input.

This is a separate program, run before the command, because code between fork and exec is not safe in a process with
threads. Each import here delays every start, so imports that only one method needs are inside functions.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1
_WATCH_S = 1.0  # how long the watching process may outlive the command


def main(method: str, signal_number: int, parent_pid: int, pid_file: str, command: list[str]) -> None:
    """Replace this process with the command."""
    if signal_number:
        if method == "kernel":
            _set_death_signal(signal_number)
        else:
            _watch_pipe(signal_number)
        if parent_pid and os.getppid() != parent_pid:
            sys.exit(1)  # the parent died before the lines above took effect
    if pid_file != "-":
        try:
            with open(f"{pid_file}.new", "w") as file:  # noqa: PTH123
                file.write(f"{os.getpid()} {_start_time(method)}\n")
            os.replace(f"{pid_file}.new", pid_file)  # noqa: PTH105
        except OSError as error:  # a full disk; the command still ends with its parent
            print(f"the PID file of process {os.getpid()} cannot be written: {error}", file=sys.stderr)
    os.execv(command[0], command)


def _set_death_signal(signal_number: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


def _watch_pipe(signal_number: int) -> None:
    """Start a process that sends the signal to this one when the standard input ends."""
    import select
    import stat

    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        sys.exit("The standard input of this command must be a pipe from its parent.")
    if select.select([0], [], [], 0)[0]:
        sys.exit(1)  # the parent has already ended
    command_pid = os.getpid()
    if os.fork() == 0:
        os.setsid()  # signals to the command's process group must not end the watch
        for descriptor in (1, 2):  # readers of the output must see where it ends
            _redirect_to_null(descriptor)
        while os.getppid() == command_pid:
            if select.select([0], [], [], _WATCH_S)[0] and not os.read(0, 1) and os.getppid() == command_pid:
                os.kill(command_pid, signal_number)
                break
        os._exit(0)
    _redirect_to_null(0)


def _redirect_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


def _start_time(method: str) -> int:
    """Return the start time of this process; see operating_system.py."""
    if method == "kernel":
        with open(f"/proc/{os.getpid()}/stat") as stat:  # noqa: PTH123
            return int(stat.read().rpartition(")")[2].split()[19])
    sys.path.append(os.path.join(os.path.dirname(__file__), "..", ".."))  # noqa: PTH118, PTH120
    from barmill.platform.operating_system import PortableProcesses

    sample = PortableProcesses().sample(os.getpid())
    return 0 if sample is None else sample.started


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
