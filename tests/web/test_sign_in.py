"""The sign-in page, the welcome page, and the way out, as a browser's requests."""

import re
import uuid
from html import unescape

import httpx
import pytest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.administration import add_account, new_link
from barmill.auth.sessions import session_cookie, sessions_of
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from tests.web.conftest import Visit

ROOT = Actor("os:root")
PASSWORD = "correct horse"


@pytest.fixture
def account(served_home: Home) -> str:
    """An account of this test alone, with a password."""
    name = f"user{uuid.uuid4().hex}"
    with open_audited_db(served_home) as db:
        add_account(db, ROOT, name, Role.TRADER, PASSWORD)
        with immediate(db):
            db.conn.execute("DELETE FROM sign_in_failures")  # all tests come from one address
    return name


def said(text: str) -> str:
    """Return what a page says is wrong."""
    found = re.search(r'role="alert">(.*?)</p>', text)
    return unescape(found[1]) if found else ""


def test_signing_in_leads_to_the_page_that_was_asked_for(visit: Visit, served_home: Home, account: str) -> None:
    client = visit(User_Agent="Firefox 999")
    done = client.post("/sign-in", data={"name": account, "password": PASSWORD, "next": "/chart?frame=1s"})
    assert (done.status_code, done.headers["location"]) == (303, "/chart?frame=1s")
    cookie = done.headers["set-cookie"]
    assert cookie.startswith(f"{session_cookie(served_home)}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=604800"} <= set(cookie.split("; "))
    assert client.get("/session").status_code == 204
    with open_audited_db(served_home) as db:
        (session,) = sessions_of(db, account, now_ms())
    assert (session.address, session.user_agent) == ("127.0.0.1", "Firefox 999")


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "chart"])
def test_signing_in_leads_nowhere_else(visit: Visit, account: str, wanted: str) -> None:
    done = visit().post("/sign-in", data={"name": account, "password": PASSWORD, "next": wanted})
    assert done.headers["location"] == "/"


def test_every_sign_in_makes_a_new_session(visit: Visit, served_home: Home, account: str) -> None:
    client, form = visit("planted-by-an-attacker"), {"name": account, "password": PASSWORD}
    tokens = {client.post("/sign-in", data=form).cookies[session_cookie(served_home)] for _ in range(2)}
    assert len(tokens | {"planted-by-an-attacker"}) == 3


def test_wrong_passwords_are_slowed_down_also_under_made_up_addresses(visit: Visit, account: str) -> None:
    answers: list[httpx.Response] = []
    # On a busy machine a try can take longer than the first waits, which double.
    while (not answers or answers[-1].status_code != 429) and len(answers) < 12:
        client = visit(X_Forwarded_For=f"192.0.2.{len(answers)}")
        answers.append(client.post("/sign-in", data={"name": account, "password": f"wrong <{len(answers)}>"}))
    *tries, refused = answers
    assert len(tries) >= 4
    assert {response.status_code for response in tries} == {403}
    assert said(tries[0].text) == "The name or the password is wrong."
    wait_s = refused.headers["retry-after"]
    assert said(refused.text) == f"Too many wrong passwords; try again in {wait_s} s."
    assert int(wait_s) >= 1
    assert "wrong <" not in "".join(unescape(answer.text) for answer in answers)
    assert all(f'value="{account}"' in answer.text for answer in answers)


@pytest.mark.parametrize("data", [{}, {"name": "x" * 10_000, "password": "y"}, {"password": "y"}])
def test_forms_that_are_none_are_refused(visit: Visit, data: dict[str, str]) -> None:
    assert visit().post("/sign-in", data=data).status_code in (403, 429)
    assert visit().post("/welcome", data=data).status_code == 404


def test_forms_that_are_too_large_are_not_read(visit: Visit) -> None:
    for path in ("/sign-in", "/welcome"):
        assert visit().post(path, data={"name": "x" * 20_000, "password": "y"}).status_code == 413


def test_what_visitors_type_is_shown_as_text(visit: Visit) -> None:
    answer = visit().post("/sign-in", data={"name": "<script>alert(1)</script>", "password": "y", "next": '/"><b>'})
    assert "<script>" not in answer.text
    assert '"><b>' not in answer.text


def test_a_welcome_link_chooses_a_password_and_lets_in(visit: Visit, served_home: Home, account: str) -> None:
    with open_audited_db(served_home) as db:
        token = new_link(db, ROOT, account)
    client = visit()
    for _ in range(2):  # a preview of the link does not use it up
        page = client.get(f"/welcome?token={token}")
        assert f"<strong>{account}</strong>" in page.text
    short = client.post("/welcome", data={"token": token, "password": "short", "again": "short"})
    assert (short.status_code, said(short.text)) == (422, "The password has 5 characters; use at least 10.")
    two = client.post("/welcome", data={"token": token, "password": "battery staple", "again": "battery stable"})
    assert said(two.text) == "The passwords do not match."
    done = client.post("/welcome", data={"token": token, "password": "battery staple", "again": "battery staple"})
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert client.get("/session").status_code == 204
    again = visit().get(f"/welcome?token={token}")
    assert again.status_code == 404
    assert "This link was used, replaced, or has expired; ask an admin for a new one (./barmill" in again.text
    assert visit().post("/sign-in", data={"name": account, "password": "battery staple"}).status_code == 303


def test_signing_out_ends_the_session_and_takes_the_cookie(visit: Visit, served_home: Home, account: str) -> None:
    client = visit()
    done = client.post("/sign-in", data={"name": account, "password": PASSWORD})
    token = done.cookies[session_cookie(served_home)]
    client.get("/sign-out")  # a picture on another site must not be enough
    assert client.get("/session").status_code == 204
    out = client.post("/sign-out")
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert visit(token, Accept="*/*").get("/session").status_code == 401


def test_being_there_is_noted(visit: Visit, served_home: Home, account: str) -> None:
    client = visit()
    client.post("/sign-in", data={"name": account, "password": PASSWORD})
    with open_audited_db(served_home) as db:
        then_ms = now_ms() - 120_000
        with immediate(db):
            db.conn.execute("UPDATE sessions SET last_seen_ms = ? WHERE account = ?", (then_ms, account))
        client.get("/session")
        client.get("/")
        assert sessions_of(db, account, now_ms())[0].last_seen_ms == then_ms
        client.post("/session")
        assert sessions_of(db, account, now_ms())[0].last_seen_ms > then_ms
