"""Every page, for every role: who may not see a page sees nothing of it, however they get there."""

import pytest
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import GRANTS, Role
from barmill.platform.home import REPO_ROOT, Home
from tests.pages.conftest import TIMEOUT_S, LookAs, opened, texts
from tests.support.roles import PAGES


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


def test_no_page_is_left_out_here() -> None:
    assert {path.stem for path in (REPO_ROOT / "pages").glob("*.py")} - {"__init__"} == set(PAGES)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_for_those_who_may_see_it(page: str, role: Role, look_as: LookAs) -> None:
    look_as(role)
    title, needs = PAGES[page]
    app = opened(page)
    assert not app.exception
    assert (title in [header.value for header in app.header]) == (needs in GRANTS[role])


@pytest.mark.parametrize("role", [Role.TRADER, Role.OPERATOR])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_run_without_the_router_still_asks_who_looks(page: str, role: Role, look_as: LookAs) -> None:
    look_as(role)
    title, needs = PAGES[page]
    app = AppTest.from_file(str(REPO_ROOT / "pages" / f"{page}.py"), default_timeout=TIMEOUT_S).run()
    assert not app.exception
    if needs in GRANTS[role]:
        return
    assert title not in texts(app)
    assert [error.value for error in app.error] == [f"This page requires permission to {needs.value}; ask an admin."]
