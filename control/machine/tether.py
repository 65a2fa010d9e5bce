"""Run a command that dies with the process that started it, and leave a note of its process id.

    python -I -S tether.py SIGNAL PARENT_PID PID_FILE COMMAND...

SIGNAL: sent to the command when its parent dies (Linux only), or 0. PARENT_PID: who that is, or 0 if the caller
cannot know. PID_FILE: where to write process id and start time, or "-".

A killed supervisor or replay cannot clean up after itself; the kernel can do it for them. This is a program of its
own, run before the command, because code between fork and exec is not safe in a process that has threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(signal_number: int, parent_pid: int, pid_file: str, command: list[str]) -> None:
    """Replace this process by the command."""
    if signal_number and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        if parent_pid and os.getppid() != parent_pid:
            sys.exit(1)  # the parent died before the line above took effect
    if pid_file != "-":
        # Only the built-in open: importing more would cost more than the rest of this program.
        with open(f"/proc/{os.getpid()}/stat") as stat:  # noqa: PTH123
            started = stat.read().rpartition(")")[2].split()[19]
        try:
            with open(f"{pid_file}.new", "w") as note:  # noqa: PTH123
                note.write(f"{os.getpid()} {started}\n")
            os.replace(f"{pid_file}.new", pid_file)  # noqa: PTH105
        except OSError as error:  # a full disk; the kernel ends the command with its parent all the same
            print(f"no note of process {os.getpid()}: {error}", file=sys.stderr)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
