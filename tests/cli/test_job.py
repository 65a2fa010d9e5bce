"""`job` at the command line, on a home where Barmill does not run; what the controller does: see tests/cluster."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barmill.audit.roles import Actor
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from cli.main import main
from control.jobs.model import Outcome
from control.jobs.repository import JobRepository
from tests.support.controller import CAUSE, PlayedController

Job = Callable[..., str]


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def job(capsys: pytest.CaptureFixture[str]) -> Job:
    """Call `barmill job` and return what it printed."""

    def call(*arguments: str) -> str:
        code = main(["job", *arguments])
        said = capsys.readouterr()
        notes = [line for line in said.err.splitlines() if not line.startswith("Note: ")]
        assert (code, notes) == (0, [])
        return said.out

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Job:
    """Call `barmill job`, see it fail, and return its one sentence."""

    def call(*arguments: str) -> str:
        code = main(["job", *arguments])
        said = capsys.readouterr()
        assert (code, said.out) == (1, "")
        assert said.err.startswith("barmill: ")
        assert said.err.count("\n") == 1
        return said.err.removeprefix("barmill: ").rstrip()

    return call


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., str]:
    def write(name: str = "bars", **fields: object) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"name": name, **fields}))
        return str(path)

    return write


def as_json(text: str) -> Any:
    return json.loads(text)


def test_a_home_without_jobs_says_how_to_get_one(job: Job) -> None:
    assert (
        job("list")
        == "There are no jobs yet; run ./barmill up, which creates the first, or ./barmill job create SPEC.json.\n"
    )
    assert as_json(job("list", "--json")) == []


def test_jobs_are_listed_with_what_scripts_rely_on(job: Job, spec: Callable[..., str]) -> None:
    assert job("create", spec("bars-5m", frames="5m")).startswith("Created bars-5m; start it with ./barmill job start")
    assert as_json(job("create", spec("bars", parallelism=2), "--json")) == {"created": "bars"}
    job("start", "bars")
    first, second = as_json(job("list", "--json"))
    assert {name: first[name] for name in ("name", "desired", "state", "sentence")} == {
        "name": "bars",
        "desired": "running",
        "state": "UNKNOWN",
        "sentence": "The controller has not checked the job yet.",
    }
    assert (first["version"], first["frames"], first["parallelism"]) == (1, "1s,1m,1h", 2)
    assert first["operation"]["kind"] == "start"
    assert (second["name"], second["desired"], second["state"], second["operation"]) == (
        "bars-5m",
        "stopped",
        "STOPPED",
        None,
    )
    line = job("list").splitlines()[0]
    assert line.startswith("bars ")
    assert "should be running" in line
    assert line.endswith("(start in progress: Waiting for the controller.)")


def test_a_spec_comes_from_standard_input_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"name": "piped"}'))
    assert as_json(job("create", "-", "--json")) == {"created": "piped"}


def test_a_job_is_shown_with_its_history(home: Home, job: Job, spec: Callable[..., str]) -> None:
    job("create", spec())
    controller = PlayedController(home)
    for arguments in (("start", "bars"), ("restart", "bars")):
        job(*arguments)
        controller.done()
    failed = controller.fail("bars")
    controller.close()
    shown = as_json(job("show", "bars", "--json"))
    assert (shown["name"], shown["state"], shown["spec"]["frames"]) == ("bars", "FAILED", "1s,1m,1h")
    newest, *_ = shown["runs"]
    assert (newest["id"], newest["end"], newest["cause"]) == (failed.id, "FAILED", CAUSE)
    assert newest["restored_from"] == shown["savepoints"][0]["path"]
    assert [(operation["kind"], operation["outcome"]) for operation in shown["operations"]] == [
        ("restart", "done"),
        ("start", "done"),
    ]
    assert shown["operations"][0]["actor"] == Actor.at_command_line().name
    text = job("show", "bars")
    for part in ("runs\n", "operations\n", "savepoints\n", failed.id, shown["savepoints"][0]["id"], "FAILED"):
        assert part in text


def test_what_is_asked_for_is_noted_and_says_who_will_do_it(home: Home, job: Job, spec: Callable[..., str]) -> None:
    job("create", spec())
    said = job("start", "bars")
    assert said == ("Requested: start bars. Barmill is not running; the operation starts with ./barmill up.\n")
    joined = as_json(job("start", "bars", "--json"))
    with JobRepository.read_only(home) as repository:
        (operation,) = repository.operations("bars", 9)
    assert (joined["id"], joined["kind"], joined["wanted"], joined["outcome"]) == (operation.id, "start", {}, None)


@pytest.mark.parametrize(
    ("arguments", "kind", "wanted"),
    [
        (["stop", "bars"], "stop", {}),
        (["stop", "bars", "--mode", "stateless"], "stop", {"mode": "stateless"}),
        (["stop", "bars", "--savepoint-dir", "/backup"], "stop", {"savepoint_dir": "/backup"}),
        (["cancel", "bars"], "stop", {"mode": "last-state"}),
        (["restart", "bars"], "restart", {}),
        (["restart", "bars", "--from", "beginning"], "restart", {"mode": "stateless"}),
        (["rescale", "bars", "3"], "rescale", {"parallelism": 3}),
        (["rescale", "bars", "--parallelism", "3"], "rescale", {"parallelism": 3}),
        (["savepoint", "bars"], "savepoint", {}),
        (["delete", "bars"], "delete", {"mode": "last-state"}),
    ],
)
def test_each_command_asks_for_what_it_says(
    job: Job, spec: Callable[..., str], arguments: list[str], kind: str, wanted: dict[str, object]
) -> None:
    job("create", spec(shards=4))
    asked = as_json(job(*arguments, "--json"))
    assert (asked["job"], asked["kind"], asked["wanted"]) == ("bars", kind, wanted)


def test_an_edit_and_a_clone_make_versions_and_jobs(home: Home, job: Job, spec: Callable[..., str]) -> None:
    job("create", spec())
    assert as_json(job("edit", "bars", spec(frames="5m"), "--json")) == {"edited": "bars"}
    assert as_json(job("clone", "bars", "bars-2", "--json")) == {"created": "bars-2"}
    assert [job_json["frames"] for job_json in as_json(job("list", "--json"))] == ["5m", "5m"]
    job("start", "bars")
    controller = PlayedController(home)
    controller.done()
    controller.close()
    asked = as_json(job("edit", "bars", spec(frames="1h"), "--json"))
    assert (asked["kind"], asked["wanted"]) == ("upgrade", {"from_version": 2, "to_version": 3})


def test_a_savepoint_is_disposed_of_by_its_id(home: Home, job: Job, refused: Job, spec: Callable[..., str]) -> None:
    job("create", spec())
    controller = PlayedController(home)
    for what in ("start", "savepoint"):
        job(what, "bars")
        controller.done()
    controller.close()
    (savepoint,) = as_json(job("show", "bars", "--json"))["savepoints"]
    assert job("dispose", savepoint["id"]) == f"Deleted the savepoint {savepoint['id']} of bars.\n"
    assert refused("dispose", savepoint["id"]).startswith(f"There is no savepoint {savepoint['id']};")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "barz"], "There is no job barz; existing jobs: bars."),
        (["start", "barz"], "There is no job barz; existing jobs: bars."),
        (["create", "/no/such.json"], "The spec /no/such.json cannot be read: No such file or directory."),
        (["create", "/"], "The spec / cannot be read: Is a directory."),
        (["edit", "bars", "/no/such.json"], "The spec /no/such.json cannot be read: No such file or directory."),
        (
            ["clone", "bars", "Bars"],
            "The spec's name is invalid: use 1 to 40 lowercase letters, digits and dashes, and start with a letter.",
        ),
        (["rescale", "bars"], "The number of slots is missing; run ./barmill job rescale bars N."),
        (["rescale", "bars", "0"], "The spec's parallelism is invalid: Input should be greater than or equal to 1."),
        (["start", "bars", "--from", "x"], "bars has no savepoint x; ./barmill job show bars lists them."),
        (
            ["start", "bars", "--wait"],
            "The operation is queued, but Barmill is not running; start it with ./barmill up.",
        ),
        (["dispose", "x"], "There is no savepoint x; ./barmill job show NAME lists them."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    job: Job, refused: Job, spec: Callable[..., str], arguments: list[str], sentence: str
) -> None:
    job("create", spec())
    assert refused(*arguments).startswith(sentence)


def test_a_spec_that_is_not_text_is_one_sentence(refused: Job, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(b"\xff\xfe{")
    assert refused("create", str(path)) == f"The spec {path} cannot be read: it is not UTF-8 text."


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.DONE, 0), (Outcome.FAILED, 1), (None, 1)])
def test_waiting_ends_with_what_became_of_it(
    home: Home,
    job: Job,
    spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome | None,
    code: int,
) -> None:
    job("create", spec())
    monkeypatch.setattr("cli.job.is_running", lambda *_: True)

    def play() -> None:
        with JobRepository.open(home) as repository:
            assert wait_until(lambda: repository.open_operation("bars") is not None, 20)
            operation = repository.open_operation("bars")
            assert operation is not None
            operation = repository.advance(operation, sentence="The job is being started.")
            if outcome is not None:
                repository.finish(operation, outcome, "That is how it ended.", {})

    controller = threading.Thread(target=play)
    controller.start()
    ended = main(["job", "start", "bars", "--wait", "--timeout", "20" if outcome else "2"])
    controller.join()
    said = capsys.readouterr()
    assert ended == code
    last = {
        Outcome.DONE: (said.out, "That is how it ended.\n"),
        Outcome.FAILED: (said.err, "barmill: That is how it ended.\n"),
        None: (said.err, "barmill: Not finished after 2 s, but still in progress: The job is being started.\n"),
    }[outcome]
    assert last[0].endswith(last[1])


@pytest.mark.parametrize("end", ["stop --mode stateless", "cancel", "delete"])
def test_what_stops_with_a_job_is_said_before_it_does(
    end: str, job: Job, spec: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    job("create", spec("bars"))
    job("start", "bars")
    job("create", spec("fives", frames="5s,5m"))
    job("start", "fives")
    assert main(["job", *end.split(), "fives", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["kind"] == ("delete" if end == "delete" else "stop")
    assert said.err == (
        "Note: Without fives, pages continue with shorter bars of other jobs for 5s, 5m, and ./barmill verify reports"
        " them as stopped.\n"
    )
