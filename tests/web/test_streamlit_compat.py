"""What breaks when Streamlit is upgraded: each undocumented part that web/streamlit_compat.py relies on.

Where the failed assertion has a message, it says what users would notice, and where the code is to be adapted.
"""

import re
from pathlib import Path

import pytest
import streamlit as st
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.server.starlette.starlette_routes import BASE_ROUTE_COMPONENT

from barmill.audit.roles import Role
from barmill.platform.home import REPO_ROOT, Home
from tests.support.signed_in import signed_in
from tests.web.conftest import Visit
from web.headers import sha256_source
from web.streamlit_compat import (
    COMPONENTS_PATH,
    PRELOADED_ELEMENTS,
    STYLE,
    as_whole_rerun,
    preload_header,
    start_html,
    was_app_bypassed,
)

STATIC = Path(st.__file__).parent / "static"
ADAPT = f"(Streamlit {st.__version__}; adapt web/streamlit_compat.py)"


@pytest.fixture(scope="module")
def browser_code() -> str:
    """All scripts of Streamlit's page."""
    return "\n".join(path.read_text("utf-8") for path in sorted((STATIC / "static" / "js").glob("*.js")))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\.(st\w+)", STYLE))))
def test_streamlit_has_the_classes_that_the_styles_name(browser_code: str, name: str) -> None:
    effects = "margins are too wide, or keyboard focus is invisible"
    assert re.search(rf"\b{name}\b", browser_code), f"No element has the class {name} any more: {effects} {ADAPT}."


@pytest.mark.parametrize(
    "name", ["__streamlit", "BACKEND_BASE_URL", "HOST_CONFIG", "allowedOrigins", "useExternalAuthToken"]
)
def test_streamlits_page_reads_the_settings_given_to_it(browser_code: str, name: str) -> None:
    assert name in start_html()
    effect = "the browser searches for its server first, so every page opens later"
    assert re.search(rf"\b{name}\b", browser_code), f"Streamlit's page does not read {name} any more: {effect} {ADAPT}."


def test_a_theme_is_stored_under_the_name_that_streamlits_page_reads(browser_code: str) -> None:
    own = (REPO_ROOT / "src/barmill/charts/browser/visitor/theme.js").read_text("utf-8")
    name, version = re.findall(r"return `(\w+)-\$\{path\}-v(\d+)`;", own)[0]
    effect = "the theme in an account's preferences has no effect (adapt themeKey in theme.js)"
    found = re.findall(rf"=(\d+),\w+=`{name}-\$\{{window\.location\.pathname\}}`", browser_code)
    assert found == [version], f"Streamlit's theme is not stored under {name} in version {version}: {effect}: {found}"


@pytest.mark.parametrize("name", PRELOADED_ELEMENTS)
def test_each_element_that_is_loaded_early_has_its_module(name: str) -> None:
    effect = "the browser loads it only when the page needs it, so pages appear later"
    assert list((STATIC / "static" / "js").glob(f"{name}.*.js")), f"There is no module {name}: {effect} {ADAPT}."


def test_the_names_of_static_files_contain_a_hash() -> None:
    plain = [path for path in paths() if not re.search(r"\.[\w-]{8}\.\w+$", path)]
    effect = "browsers keep an old version for a year after an upgrade"
    assert not plain, f"These names would stay the same when the content changes: {effect} {ADAPT}: {plain}"


def test_streamlit_knows_no_pages_but_those_of_app_py(monkeypatch: pytest.MonkeyPatch) -> None:
    effect = "in a new server, the first visitor of a page gets it without app.py"
    assert "uses_pages_directory" in vars(PagesManager), f"Streamlit's flag has another name: {effect} {ADAPT}."
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)
    PagesManager(str(REPO_ROOT / "app.py"))
    assert PagesManager.uses_pages_directory, f"Streamlit looks for pages in another way: {effect} {ADAPT}."
    assert was_app_bypassed()
    assert not was_app_bypassed()
    PagesManager(str(REPO_ROOT / "app.py"))
    assert not PagesManager.uses_pages_directory, f"Streamlit has set its flag again: {effect} {ADAPT}."


def rerun(fragment: str = "") -> bytes:
    message = BackMsg()
    message.rerun_script.query_string = ""
    message.rerun_script.fragment_id = fragment
    return bytes(message.SerializeToString())


def test_a_message_for_a_part_of_the_page_can_be_made_one_for_all_of_it() -> None:
    fields = BackMsg.DESCRIPTOR.fields_by_name
    effect = "an open page keeps showing what the former role of its account may see"
    assert "rerun_script" in fields, f"Browsers ask for a rerun in another message: {effect} {ADAPT}."
    missing = {"fragment_id", "is_auto_rerun"} - set(fields["rerun_script"].message_type.fields_by_name)
    assert not missing, f"A request for a rerun lacks {missing}: {effect} {ADAPT}."
    whole = BackMsg()
    whole.ParseFromString(as_whole_rerun(rerun("a fragment")) or b"")
    assert whole.SerializeToString() == rerun()
    heartbeat = BackMsg(app_heartbeat=True)
    assert as_whole_rerun(heartbeat.SerializeToString()) is None
    assert as_whole_rerun(b"\xff\xff\xff") is None


def test_the_health_check_sees_that_the_app_serves(visit: Visit) -> None:
    found = visit().get("/healthz").json()["app"]
    assert found == "ok", f"The state of Streamlit's runtime reads {found}: the health check fails {ADAPT}."


def test_the_default_page_is_found_under_its_name_too(visit: Visit, served_home: Home) -> None:
    client = visit(signed_in(served_home, Role.TRADER))
    for asked, leads_to in (("/overview", "./"), ("/overview?frame=1h", "./?frame=1h")):
        answer = client.get(asked, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, leads_to)


def test_components_of_packages_are_served_where_their_policy_applies(visit: Visit, served_home: Home) -> None:
    client = visit(signed_in(served_home, Role.TRADER))
    headers = client.get(f"{COMPONENTS_PATH}none/index.html").headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    effect = "browsers refuse to show it, so pages with a timer do not refresh"
    served = f"/{BASE_ROUTE_COMPONENT}/"
    assert served == COMPONENTS_PATH, f"Components are served below {served}: {effect} {ADAPT}."


def named() -> list[str]:
    return [link.partition(">")[0].removeprefix("<") for link in preload_header().split(", ")]


def test_modules_are_named_with_what_they_import_and_none_twice() -> None:
    names = [Path(path).name.partition(".")[0] for path in named()]
    assert {"BidiComponent", "Selectbox", "ButtonGroup", "useMenuTrigger"} <= set(names)
    assert all((STATIC / path).is_file() for path in named())
    assert len(set(named())) == len(named())


def test_what_the_page_itself_names_is_left_out() -> None:
    index = (STATIC / "index.html").read_text("utf-8")
    assert not [path for path in named() if path in index]


def test_only_pages_of_the_app_name_them(visit: Visit, served_home: Home) -> None:
    client = visit(signed_in(served_home, Role.TRADER), Accept="text/html")
    assert client.get("/chart").headers["link"] == preload_header()
    assert "link" not in client.get("/healthz").headers
    assert "link" not in visit(Accept="text/html").get("/sign-in").headers


@pytest.mark.parametrize("page", ["", *(path.stem for path in (REPO_ROOT / "pages").glob("[a-z]*.py"))])
def test_every_page_begins_with_streamlits_own_that_knows_its_server(
    visit: Visit, served_home: Home, page: str
) -> None:
    answer = visit(signed_in(served_home, Role.TRADER), Accept="text/html").get(
        f"/{page}?instrument=A", follow_redirects=True
    )
    assert answer.status_code == 200
    assert answer.text == start_html()
    assert answer.headers["cache-control"] == "no-cache"
    scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert any(script.startswith("window.__streamlit = {BACKEND_BASE_URL: location.origin") for script in scripts)
    assert all(sha256_source(script) in answer.headers["content-security-policy"] for script in scripts)


def test_only_a_script_was_added() -> None:
    own = (STATIC / "index.html").read_text("utf-8")
    added = re.sub(r"<script>window.__streamlit = [^<]*</script>", "", start_html(), count=1)
    assert added == own != start_html()


def test_a_page_needs_a_session(visit: Visit) -> None:
    assert visit(Accept="text/html").get("/chart", follow_redirects=False).headers["location"].startswith("/sign-in?")


def paths() -> list[str]:
    return [path.relative_to(STATIC).as_posix() for path in (STATIC / "static").rglob("*") if path.is_file()]


def test_every_file_is_answered_as_it_is_on_disk(visit: Visit, served_home: Home) -> None:
    client, types = visit(signed_in(served_home, Role.TRADER)), set[str]()
    for path in paths():
        answer = client.get(f"/{path}")
        assert answer.content == (STATIC / path).read_bytes()
        assert answer.headers["cache-control"] == "public, immutable, max-age=31536000"
        assert answer.headers["x-content-type-options"] == "nosniff"
        types.add(answer.headers["content-type"].partition(";")[0])
    assert {"text/css", "font/woff2"} <= types


def test_streamlit_says_the_same_of_them(visit: Visit, served_home: Home) -> None:
    client, path = visit(signed_in(served_home, Role.TRADER)), next(path for path in paths() if path.endswith(".js"))
    ours, theirs = client.get(f"/{path}").headers, client.head(f"/{path}").headers  # which Streamlit answers
    assert "etag" in theirs
    assert "etag" not in ours
    for name in ("cache-control", "content-length", "content-type"):
        assert ours[name] == theirs[name]


def test_what_is_not_there_is_streamlits_to_answer(visit: Visit, served_home: Home) -> None:
    client = visit(signed_in(served_home, Role.TRADER))
    assert client.get("/static/js/../../index.html").status_code == 200
    assert client.get("/static/%2e%2e/%2e%2e/__init__.py").status_code in (400, 404)


def test_a_static_file_needs_a_session(visit: Visit) -> None:
    assert visit(**{"Sec-Fetch-Mode": "no-cors"}).get(f"/{paths()[0]}").status_code == 401
