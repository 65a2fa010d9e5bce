import io
import stat
from contextlib import redirect_stdout
from urllib.parse import urlsplit
from urllib.request import url2pathname

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.administration import add_account
from barmill.platform.home import Home
from barmill.platform.ports import choose_ports
from cli.up import _print_first_sign_in, _redirect_page


def test_the_first_link_is_printed_until_an_admin_has_a_password(home: Home) -> None:
    port = choose_ports(home, 18_501).app
    with redirect_stdout(io.StringIO()) as said:
        link = _print_first_sign_in(home)
    assert link is not None
    assert link.startswith(f"http://127.0.0.1:{port}/welcome?token=")
    assert said.getvalue().splitlines()[-1] == link
    with open_audited_db(home) as db:
        add_account(db, Actor("os:root"), "ada", Role.ADMIN, "correct horse")
    with redirect_stdout(io.StringIO()) as said:
        assert _print_first_sign_in(home) is None
    assert said.getvalue() == ""


def test_a_browser_is_led_to_the_link_by_a_file_of_ones_own(home: Home) -> None:
    """Everybody on the machine can see what a program is started with."""
    link = "http://127.0.0.1:8501/welcome?token=one-time"
    for _ in range(2):
        address = _redirect_page(home, link)
    assert "one-time" not in address
    page = home.run / "first-sign-in.html"
    assert url2pathname(urlsplit(address).path) == str(page)
    assert f'content="0; url={link}"' in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
