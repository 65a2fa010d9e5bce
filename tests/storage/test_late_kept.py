"""Late ticks are kept up to a bound, and counted for ever: the account adds up whatever a job does again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.job_spec import BarsJobSpec
from barmill.model.tick import REJECT_SCHEMA
from barmill.storage import rejects
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.reader import BarReader
from flink_jobs.operators import Publish
from flink_jobs.publication import Publication

KEPT, SLACK = 5, 2


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejects, "MAX_KEPT_PER_SHARD", KEPT)
        patch.setattr(rejects, "_SLACK", SLACK)
        yield


def table(job: str, shard: int, *sequences: int) -> pl.DataFrame:
    values = {"job": [job] * len(sequences), "shard": [shard] * len(sequences), "source": ["one"] * len(sequences)}
    empty = {name: pl.lit(None, dtype) for name, dtype in REJECT_SCHEMA.items() if name != "sequence"}
    return pl.DataFrame({**values, "rejected_ms": [1] * len(sequences), "sequence": sequences}).with_columns(**empty)


def write(store: BarStore, job: str, shard: int, *sequences: int) -> None:
    with store.db.atomic():
        store.write_late(table(job, shard, *sequences))


def test_the_newest_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    with closing(BarStore.open(tmp_path / "bars.sqlite")) as store:
        write(store, "bars", 0, *range(1, 21))
        write(store, "bars", 0, *range(15, 31))  # again from a checkpoint, and on
        write(store, "bars", 1, 31)
        write(store, "other", 0, 31)
        reader = BarReader(store.db)
        assert [*reader.rejects().filter(job="bars")["sequence"]] == [26, 27, 28, 29, 30, 31]
        assert (reader.reject_count("bars"), reader.reject_count("other"), reader.reject_count()) == (31, 1, 31)


def test_a_replay_keeps_every_one(tmp_path: Path) -> None:
    spec = BarsJobSpec(ticks_db=tmp_path / "ticks.sqlite", bars_db=tmp_path / "bars.sqlite", final_only=True)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    publish = Publish(tmp_path / "spec.json")
    publish.open(None)
    late = table("bars", 0, *range(1, 21)).drop("job", "shard", "rejected_ms")
    progress = Progress("bars", 0, "1s", 0, 1, 21, 20, 20, 0, 0, None, False, 0)
    publish.map(Publication(progress, None, late).pack())
    publish.close()
    assert BarReader.open(spec.bars_db).rejects().height == 20


def test_a_store_from_before_the_bound_opens_with_its_counts(tmp_path: Path) -> None:
    with closing(BarStore.open(tmp_path / "bars.sqlite")) as store:
        write(store, "bars", 0, 1, 2, 3)
        store.db.execute("DROP TABLE late")
        store.db.execute("DELETE FROM _sqlite_migrations WHERE name = 'keep_few_late_ticks'")
    with closing(BarStore.open(tmp_path / "bars.sqlite")) as store:
        write(store, "bars", 0, *range(3, 12))
        assert BarReader(store.db).reject_count("bars") == 11


steps = st.lists(
    st.one_of(
        st.tuples(st.just("refuse"), st.integers(0, 12)),
        st.tuples(st.just("go back"), st.integers(0, 30)),
        st.tuples(st.just("begin again"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_the_count_is_right_whatever_a_job_does_again(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder, closing(BarStore.open(Path(folder) / "bars.sqlite", durable=False)) as store:
        at, refused = 1, set[int]()
        for what, number in steps:
            if what == "refuse":
                write(store, "bars", 0, *range(at, at + number))
                refused |= {*range(at, at + number)}
                at += number
            elif what == "go back":
                at = max(1, at - number)
            else:
                at = 1
                with store.db.atomic():
                    store.forget_late("bars", 0, 1)
                refused.clear()
            assert BarReader(store.db).reject_count("bars") == len(refused)
            assert BarReader(store.db).rejects().height <= KEPT + SLACK
