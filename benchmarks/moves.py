"""Drills of moving bars into blocks: python -m benchmarks.moves BARS KILLS --home FOLDER.

kills    a process that moves bars is killed at random moments; the bars stay equal
compare  a reader compares each answer during a move with the answer of the same store without blocks
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from barmill.model.frames import parse_frame
from barmill.platform.home import Home
from barmill.storage.reader import BarQuery, BarReader
from benchmarks.queries import instruments, make_store
from control.retention import move_history

_SEED = 1
_MAX_DELAY_S = 0.3
_FRAMES = [parse_frame(text) for text in ("1s", "5s", "1m", "30m", "1h")]
_NEWEST = (1, 300, 1_000, 5_000)
# The exit code after a complete drill that found differences.
DIFFERENT = 3
_MOVE = [sys.executable, "-P", "-m", "benchmarks.moves", "--move"]


def move(home: Home) -> None:
    """Move all bars that can move, and print a line after each move."""
    for bars in move_history(home):
        print(bars, flush=True)


def kill_moves(home: Home, kills: int) -> int:
    """Kill a moving process `kills` times, each time after a random delay. Return how many kills found it moving."""
    rng, found = random.Random(_SEED), 0
    for _ in range(kills):
        with subprocess.Popen([*_MOVE, "--home", str(home.root)], stdout=subprocess.PIPE) as moving:
            assert moving.stdout is not None
            moving.stdout.readline()  # of the first move
            time.sleep(rng.random() * _MAX_DELAY_S)
            found += moving.poll() is None
            moving.send_signal(signal.SIGKILL)
    return found


def differences(plain: Path, moved: Path) -> int:
    """Return how many bars of the store `plain` are different or missing in the store `moved`."""
    with BarReader.open(plain) as expected, BarReader.open(moved) as found:
        count = 0
        for name in expected.instruments():
            for frame in sorted({*expected.frames(name), *found.frames(name)}):
                one, other = expected.bars(name, frame), found.bars(name, frame)
                count += (
                    0 if one.equals(other) else one.join(other, on=one.columns, how="anti", nulls_equal=True).height
                )
        return count


def compare_while_moving(plain: Path, home: Home) -> tuple[int, int]:
    """Compare random answers of both stores while another process moves bars; return (answers, different answers)."""
    rng, answers, different = random.Random(_SEED), 0, 0
    with BarReader.open(plain) as expected, BarReader.open(home.bars_db) as found:
        names, totals = expected.instruments(), expected.totals()
        moving = subprocess.Popen([*_MOVE, "--home", str(home.root)], stdout=subprocess.DEVNULL)
        while moving.poll() is None:
            frame, name = rng.choice(_FRAMES), rng.choice(names)
            last_ms = int(expected.newest(name, "1h", 1)["end_ms"].item())
            to_ms = rng.choice([None, last_ms - rng.randrange(86_400_000)])
            query = BarQuery(name, frame, to_ms=to_ms, newest=rng.choice(_NEWEST))
            different += not found.read(query).equals(expected.read(query))
            different += found.totals() != totals
            answers += 2
        if moving.returncode:
            raise SystemExit(f"The move failed with the exit code {moving.returncode}.")
    return answers, different


def blocks_of(path: Path) -> dict[str, float]:
    """Return the numbers of bars in blocks, of blocks and of bars in rows, and the mean bytes of a bar in blocks."""
    with BarReader.open(path) as reader:
        query = "SELECT coalesce(sum(bars), 0), count(*), coalesce(sum(length(data)), 0) FROM bar_blocks"
        bars, blocks, size = reader.db.conn.execute(query).fetchone()
        [rows] = reader.db.conn.execute("SELECT count(*) FROM bars").fetchone()
    return {"in_blocks": bars, "blocks": blocks, "rows": rows, "bytes_a_bar": round(size / bars, 2) if bars else 0.0}


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Move bars into blocks while processes are killed or read.")
    parser.add_argument("bars", type=int, nargs="?", default=0)
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("--home", type=Path, required=True, help="the folder of the stores")
    parser.add_argument("--move", action="store_true", help="only move the bars of this home")
    args = parser.parse_args()
    if args.move:
        move(Home(args.home))
        return 0
    plain = args.home / "plain.sqlite"
    make_store(plain, args.bars)
    # The store of a killed process belongs together with its write-ahead log, so each drill has a separate home.
    killed, compared = (Home(args.home / name).create() for name in ("killed", "compared"))
    for home in (killed, compared):
        shutil.copy(plain, home.bars_db)
    after_kills: dict[str, float] = {"killed_while_moving": kill_moves(killed, args.kills)}
    after_kills |= {"different_bars": differences(plain, killed.bars_db), **blocks_of(killed.bars_db)}
    for _ in move_history(killed):
        pass
    after_kills["different_bars_after_the_move"] = differences(plain, killed.bars_db)
    started_s = time.monotonic()
    answers, different = compare_while_moving(plain, compared)
    result = {
        "bars": args.bars,
        "instruments": len(instruments(args.bars)),
        "kills": after_kills,
        "compare": {
            "answers": answers,
            "different_answers": different,
            "moved_s": round(time.monotonic() - started_s, 1),
            "different_bars": differences(plain, compared.bars_db),
            **blocks_of(compared.bars_db),
        },
    }
    print(json.dumps(result))
    found = (different, after_kills["different_bars"], after_kills["different_bars_after_the_move"])
    return DIFFERENT if any(found) or result["compare"]["different_bars"] else 0


if __name__ == "__main__":
    sys.exit(main())
