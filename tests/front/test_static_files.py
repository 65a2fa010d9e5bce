from pathlib import Path

import streamlit

from control.home import Home
from control.people.roles import Role
from tests.front.conftest import Visit
from tests.signed_in import signed_in

STATIC = Path(streamlit.__file__).parent / "static"


def paths() -> list[str]:
    return [path.relative_to(STATIC).as_posix() for path in (STATIC / "static").rglob("*") if path.is_file()]


def test_every_file_is_answered_as_it_is_on_disk(visit: Visit, served_home: Home) -> None:
    one, types = visit(signed_in(served_home, Role.TRADER)), set[str]()
    for path in paths():
        answer = one.get(f"/{path}")
        assert answer.content == (STATIC / path).read_bytes()
        assert answer.headers["cache-control"] == "public, immutable, max-age=31536000"
        assert answer.headers["x-content-type-options"] == "nosniff"
        types.add(answer.headers["content-type"].partition(";")[0])
    assert {"text/css", "font/woff2"} <= types


def test_streamlit_says_the_same_of_them(visit: Visit, served_home: Home) -> None:
    one, path = visit(signed_in(served_home, Role.TRADER)), next(path for path in paths() if path.endswith(".js"))
    ours, theirs = one.get(f"/{path}").headers, one.head(f"/{path}").headers  # which goes on to it
    assert "etag" in theirs
    assert "etag" not in ours
    for name in ("cache-control", "content-length", "content-type"):
        assert ours[name] == theirs[name]


def test_what_is_not_there_is_streamlits_to_answer(visit: Visit, served_home: Home) -> None:
    one = visit(signed_in(served_home, Role.TRADER))
    assert one.get("/static/js/../../index.html").status_code == 200
    assert one.get("/static/%2e%2e/%2e%2e/__init__.py").status_code in (400, 404)


def test_nobody_gets_one_without_a_session(visit: Visit) -> None:
    assert visit(**{"Sec-Fetch-Mode": "no-cors"}).get(f"/{paths()[0]}").status_code == 401
