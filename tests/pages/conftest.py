"""Pages run as a signed-in admin, unless a test says who looks; and what tests of several pages share."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import Actor, Role
from barmill.platform.home import REPO_ROOT, Home
from control.jobs.model import Operation
from control.jobs.service import JobService
from pages.parts.shared import visitor
from tests.support.controller import PlayedController
from tests.support.signed_in import signed_in

LookAs = Callable[[Role], str]
# The first run of an app imports all that it needs.
TIMEOUT_S = 120
ADA = Actor("ada")
BARS = json.dumps({"name": "bars", "shards": 4})


@pytest.fixture
def look_as(home: Home, monkeypatch: pytest.MonkeyPatch) -> LookAs:
    """Open the pages with this role from now on; return the token of the session."""

    def look(role: Role) -> str:
        token = signed_in(home, role)
        monkeypatch.setattr(visitor, "session_token", lambda: token)
        return token

    return look


@pytest.fixture(autouse=True)
def _main_module_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a page that runs makes of `__main__`, from which processes of later tests would start."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def _admin_looks(request: pytest.FixtureRequest) -> None:
    if "home" in request.fixturenames:
        request.getfixturevalue("look_as")(Role.ADMIN)


@pytest.fixture
def use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages find the home of the test."""
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def service(home: Home) -> Iterator[JobService]:
    with JobService.open(home, ADA) as opened:
        yield opened


@pytest.fixture
def controller(home: Home, service: JobService) -> Iterator[PlayedController]:
    """A controller, and the job `bars`, which runs."""
    service.create(BARS)
    service.start("bars")
    played_controller = PlayedController(home)
    played_controller.done()
    yield played_controller
    played_controller.close()


def opened(page: str = "overview", **query: str) -> AppTest:
    app = AppTest.from_file(str(REPO_ROOT / "app.py"), default_timeout=TIMEOUT_S)
    app.query_params.update(query)
    return app.switch_page(str(REPO_ROOT / "pages" / f"{page}.py")).run()


def component(app: AppTest, name: str) -> Any:
    """Return what a component of our own was given."""
    (found,) = [element for element in app.get("bidi_component") if element.proto.component_name == name]
    return json.loads(found.proto.json)


def address(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def texts(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in (*app.header, *app.subheader, *app.markdown, *app.caption))


def job_page(name: str = "bars") -> AppTest:
    app = opened("jobs", job=name)
    assert not app.exception
    return app


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def more(app: AppTest) -> list[str]:
    return [label for menu in app.menu_button if menu.label == "More" for label in menu.options]


def choose(app: AppTest, label: str) -> AppTest:
    """Pick from the menu beside the buttons, which opens a dialog."""
    menu = app.menu_button(key="jobs_more")
    return menu.click_index(menu.options.index(label)).run()


def typed(app: AppTest, name: str) -> AppTest:
    app.text_input(key="jobs_typed").set_value(name)
    return app.button(key="jobs_confirm").click().run()


def toasts(app: AppTest) -> list[str]:
    return [str(toast.value) for toast in app.toast]


def under_way(service: JobService, name: str = "bars") -> Operation:
    operation = service.repository.open_operation(name)
    assert operation is not None
    return operation
