"""How jobs come to be, and how what they are to do is changed."""

import json
from pathlib import Path

import pytest

from control.home import Home
from control.jobs.book import JobBook
from control.jobs.operations import Kind, Wanted
from control.jobs.specs import JobError, NoSuchJobError, read_spec, written
from control.jobs.states import Desired
from tests.control.job_books import book as book
from tests.control.job_books import running, spec_text, trail


def test_a_job_is_made_stopped_and_its_record_holds_the_spec(book: JobBook) -> None:
    spec = book.create(spec_text("bars-5m", frames=["5m", "15m"], parallelism=2))
    job = book.ledger.job("bars-5m")
    assert (job.version, job.desired, job.fresh_after_run) == (1, Desired.STOPPED, 0)
    assert (spec.frames, spec.parallelism, spec.shards) == ("5m,15m", 2, 2)
    assert (spec.ticks_db, spec.bars_db) == (book.ledger.home.ticks_db, book.ledger.home.bars_db)
    assert book.ledger.open_operation("bars-5m") is None
    (made,) = trail(book)
    assert (made.actor, made.action, made.subject, made.stage) == ("ada", "job.create", "bars-5m", "executed")
    assert json.loads(str(made.after)) == written(spec)


def test_a_name_is_given_once(book: JobBook) -> None:
    book.create(spec_text())
    with pytest.raises(JobError, match="There is a job bars already; choose another name, or edit that one"):
        book.create(spec_text(frames="5m"))
    assert [one.stage for one in trail(book)] == ["refused", "executed"]
    assert book.ledger.spec("bars", 1).frames == "1s,1m,1h"


def test_a_clone_is_the_same_but_for_its_name_and_stopped(book: JobBook) -> None:
    book.create(spec_text(frames="5m", lateness_ms=1_000))
    book.start("bars")
    clone = book.clone("bars", "bars-2")
    assert written(clone) == written(book.ledger.spec("bars", 1)) | {"name": "bars-2"}
    assert book.ledger.job("bars-2").desired is Desired.STOPPED
    with pytest.raises(JobError, match="There is a job bars-2 already"):
        book.clone("bars", "bars-2")
    with pytest.raises(NoSuchJobError, match="There is no job barz; there is bars, bars-2"):
        book.clone("barz", "bars-3")


BAD_SPECS = {
    "": "The spec is not JSON: Expecting value in line 1; mend it and try again.",
    '{"name": "x",}': "The spec is not JSON: Expecting property name enclosed in double quotes in line 1; mend it and",
    '{\n"name": x}': "The spec is not JSON: Expecting value in line 2; mend it and try again.",
    "[]": 'The spec must be a JSON object such as {"name": "bars", "frames": "1s,1m,1h"}.',
    "null": "The spec must be a JSON object such as",
    '"bars"': "The spec must be a JSON object such as",
    "{}": "The spec names no job; add a name, such as bars-5m.",
    '{"name": ""}': "The spec's name is wrong: String should match pattern",
    '{"name": "Bars"}': "The spec's name is wrong: String should match pattern",
    '{"name": "../bars"}': "The spec's name is wrong: String should match pattern",
    '{"name": 7}': "The spec's name is wrong: Input should be a valid string.",
    '{"name": "x", "frame": "1s"}': "A spec has no field frame; it may have name, source, sink, frames, lateness_ms,",
    '{"name": "x", "ticks_db": "/etc/passwd"}': "A spec has no field ticks_db; it may have",
    '{"name": "x", "bars_db": "/tmp/b"}': "A spec has no field bars_db; it may have",
    '{"name": "x", "frames": ""}': "The spec's frames is wrong: '' is not a time frame: write a whole number and one",
    '{"name": "x", "frames": "1s,1y"}': "The spec's frames is wrong: '1y' is not a time frame: write a whole number",
    '{"name": "x", "frames": [1]}': 'The spec\'s frames is wrong: frames are written like "1s,1m,1h".',
    '{"name": "x", "lateness_ms": -1}': "The spec's lateness_ms is wrong: Input should be greater than or equal to 0.",
    '{"name": "x", "lateness_ms": "soon"}': "The spec's lateness_ms is wrong: Input should be a valid integer",
    '{"name": "x", "allowance_ms": 0.5}': "The spec's allowance_ms is wrong: Input should be a valid integer",
    '{"name": "x", "shards": 0}': "The spec's shards is wrong: Input should be greater than or equal to 1.",
    '{"name": "x", "shards": 129}': "The spec's shards is wrong: Input should be less than or equal to 128.",
    '{"name": "x", "parallelism": null}': "is wrong: Input should be a valid integer.",
    '{"name": "x", "poll_ms": 1}': "The spec's poll_ms is wrong: Input should be greater than or equal to 10.",
    '{"name": "x", "source": "files"}': "The spec's source is wrong: Input should be 'sqlite' or 'kafka'.",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_SPECS.items())
def test_a_spec_that_is_wrong_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(JobError) as refused:
        read_spec(text, Home(tmp_path))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not str(refused.value).endswith("..")
    assert "pydantic" not in str(refused.value)


def test_a_spec_that_is_wrong_makes_no_job(book: JobBook) -> None:
    for text in BAD_SPECS:
        with pytest.raises(JobError):
            book.create(text)
    assert book.ledger.jobs() == []
    assert trail(book) == []


def test_an_edit_of_a_stopped_job_counts_from_its_next_start_on(book: JobBook) -> None:
    book.create(spec_text())
    assert book.edit("bars", spec_text(frames="5m")) is None
    assert book.ledger.job("bars").version == 2
    assert [(one.version, one.spec.frames) for one in book.ledger.versions("bars", 9)] == [(2, "5m"), (1, "1s,1m,1h")]
    edited = trail(book)[0]
    assert (edited.action, edited.stage) == ("job.edit", "executed")
    before, after = json.loads(str(edited.before)), json.loads(str(edited.after))
    assert (before["frames"], after["frames"]) == ("1s,1m,1h", "5m")


def test_an_edit_of_a_job_that_should_run_is_an_upgrade_and_leaves_the_version_to_the_controller(book: JobBook) -> None:
    running(book)
    operation = book.edit("bars", spec_text(frames="5m"))
    assert operation is not None
    assert (operation.kind, operation.wanted) == (Kind.UPGRADE, Wanted(from_version=1, to_version=2))
    assert book.ledger.job("bars").version == 1
    assert trail(book)[0].trace_id == operation.id
    assert trail(book)[0].stage == "issued"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (spec_text("other"), "The spec is of other, not of bars; a job keeps its name, but can be cloned."),
        (spec_text(shards=2), "bars keeps its 1 shards for life; clone it to have another number."),
        (spec_text(), "That is what bars is already; nothing was changed."),
        ("{", "The spec is not JSON: "),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(book: JobBook, text: str, sentence: str) -> None:
    book.create(spec_text())
    with pytest.raises(JobError) as refused:
        book.edit("bars", text)
    assert str(refused.value).startswith(sentence)
    assert book.ledger.newest_version("bars") == 1
