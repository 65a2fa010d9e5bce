from pathlib import Path

import streamlit

from control.home import Home
from control.people.roles import Role
from front.preload import preload_header
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
