"""A power cut loses nothing that a completed checkpoint counts on, and never leaves a damaged bar store."""

import random
from contextlib import closing
from pathlib import Path

import polars as pl

from barmill.model.bar import BAR_VALUES
from barmill.model.job_spec import BarsJobSpec
from barmill.storage.bar_store import Progress
from barmill.storage.reader import BarReader
from flink_jobs.operators import Publish
from flink_jobs.publication import Publication
from tests.support.power_cut import Recorder, recorded

_BARS = 150
_IMAGES = 40


def _publication(number: int) -> Publication:
    values = (1.0, 2.0, 0.5, 1.5, 10.0, 1.25, number + 1, 0, 1, "closed")
    starts = [1_000 * (number * 40 + place) for place in range(_BARS)]
    rows = [(f"I{place % 7}", "1s", start, start + 1_000, *values) for place, start in enumerate(starts)]
    bars = pl.DataFrame(rows, {**BAR_VALUES, "state": pl.String()}, orient="row")
    return Publication(Progress("bars", 0, "1s", 0, 1, number + 2, number, 0, 0, 0, None, False, number), bars, None)


def _published(spec: BarsJobSpec, folder: Path, recorder: Recorder) -> list[int]:
    """Publish as a job does; return after each publication the moment at which a checkpoint could be complete."""
    (folder / "spec.json").write_text(spec.model_dump_json())
    publish, moments = Publish(folder / "spec.json"), []
    publish.open(None)
    try:
        for number in range(60):
            publish.map(_publication(number).pack())
            moments.append(recorder.now)
    finally:
        publish.close()
    return moments


def test_a_power_cut_takes_nothing_that_a_checkpoint_counts_on(tmp_path: Path) -> None:
    spec = BarsJobSpec(ticks_db=tmp_path / "ticks.sqlite", bars_db=tmp_path / "bars.sqlite")
    with recorded() as recorder:
        moments = _published(spec, tmp_path, recorder)
    assert any(change.path.endswith(".sqlite") and change.data for change in recorder.changes[: moments[-1]])
    chance = random.Random(11)
    for image in range(_IMAGES):
        number = chance.randrange(len(moments) - 1)
        folder = tmp_path / f"image-{image}"
        folder.mkdir()
        recorder.image(spec.bars_db, chance.randint(moments[number], moments[number + 1]), folder, chance)
        with closing(BarReader.open(folder / "bars.sqlite")) as reader:
            assert reader.db.conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            (progress,) = reader.progress()
            assert progress.next_sequence >= number + 2
            (newest,) = reader.db.conn.execute("SELECT max(ticks) FROM bars").fetchone()
            assert newest == progress.next_sequence - 1
