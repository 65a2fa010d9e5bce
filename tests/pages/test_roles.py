"""Every page, for every role: who may not see a page sees nothing of it, however they get there."""

import pytest
from streamlit.testing.v1 import AppTest

from control.home import REPO_ROOT, Home
from control.people.roles import GRANTS, Permission, Role
from tests.pages.conftest import LookAs
from tests.pages.test_pages import TIMEOUT_S, opened, texts

# What each page is called, and what it takes to see it.
PAGES = {
    "overview": ("Overview", Permission.VIEW_PRICES),
    "chart": ("Chart", Permission.VIEW_PRICES),
    "frames": ("Frames", Permission.VIEW_PRICES),
    "study": ("Study", Permission.VIEW_PRICES),
    "compare": ("Compare", Permission.VIEW_PRICES),
    "jobs": ("Jobs", Permission.VIEW_OPERATIONS),
    "monitoring": ("Monitoring", Permission.VIEW_OPERATIONS),
    "feeds": ("Feeds", Permission.VIEW_OPERATIONS),
    "quality": ("Data quality", Permission.VIEW_OPERATIONS),
    "instruments": ("Instruments", Permission.MANAGE_INSTRUMENTS),
    "keys": ("API keys", Permission.MANAGE_KEYS),
    "alerts": ("Alerts", Permission.MANAGE_ALERTS),
    "accounts": ("Accounts", Permission.MANAGE_ACCOUNTS),
    "audit": ("Audit", Permission.READ_AUDIT),
    "account": ("My account", Permission.VIEW_PRICES),
}


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
    assert (title in [one.value for one in app.header]) == (needs in GRANTS[role])


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
    assert [error.value for error in app.error] == [f"This page is for people who may {needs.value}; ask an admin."]
