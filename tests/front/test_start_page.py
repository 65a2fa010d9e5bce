import re
from pathlib import Path

import pytest
import streamlit

from control.home import REPO_ROOT, Home
from control.people.roles import Role
from front.headers import sha256_source
from front.start_page import preload_header, start_html
from tests.front.conftest import Visit
from tests.signed_in import signed_in

STATIC = Path(streamlit.__file__).parent / "static"


def named() -> list[str]:
    return [one.partition(">")[0].removeprefix("<") for one in preload_header().split(", ")]


def test_modules_are_named_with_what_they_import_and_none_twice() -> None:
    names = [Path(path).name.partition(".")[0] for path in named()]
    assert {"BidiComponent", "Selectbox", "ButtonGroup", "useMenuTrigger"} <= set(names)
    assert all((STATIC / path).is_file() for path in named())
    assert len(set(named())) == len(named())


def test_what_the_page_itself_names_is_left_out() -> None:
    index = (STATIC / "index.html").read_text("utf-8")
    assert not [path for path in named() if path in index]


def test_only_pages_of_the_app_name_them(visit: Visit, served_home: Home) -> None:
    one = visit(signed_in(served_home, Role.TRADER), Accept="text/html")
    assert one.get("/chart").headers["link"] == preload_header()
    assert "link" not in one.get("/healthz").headers
    assert "link" not in visit(Accept="text/html").get("/sign-in").headers


@pytest.mark.parametrize("page", ["", *(path.stem for path in (REPO_ROOT / "pages").glob("[a-z]*.py"))])
def test_every_page_begins_with_streamlits_own_that_knows_its_server(
    visit: Visit, served_home: Home, page: str
) -> None:
    answer = visit(signed_in(served_home, Role.TRADER), Accept="text/html").get(f"/{page}?instrument=A")
    assert answer.status_code == 200
    assert answer.text == start_html()
    assert answer.headers["cache-control"] == "no-cache"
    scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert any(one.startswith("window.__streamlit = {BACKEND_BASE_URL: location.origin") for one in scripts)
    assert all(sha256_source(one) in answer.headers["content-security-policy"] for one in scripts)


def test_only_a_script_was_added() -> None:
    own = (STATIC / "index.html").read_text("utf-8")
    added = re.sub(r"<script>window.__streamlit = [^<]*</script>", "", start_html(), count=1)
    assert added == own != start_html()


def test_nobody_gets_a_page_without_a_session(visit: Visit) -> None:
    assert visit(Accept="text/html").get("/chart", follow_redirects=False).headers["location"].startswith("/sign-in?")
