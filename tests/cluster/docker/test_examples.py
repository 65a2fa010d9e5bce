"""The examples in deploy/compose on a real engine: secrets as files, TLS by Caddy, a key-encryption key in OpenBao."""

import base64
import json
import os
import secrets
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT
from barmill.platform.ports import free_ports
from tests.support.candles import after_updates, open_chart
from tests.support.project import UP_TIMEOUT_S, Project, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
USER_IN_THE_IMAGE = 10_001


def with_examples(names: list[str], environment: dict[str, str], folder: Path) -> Project:
    """Return a project with these examples, which find their secrets in `folder`."""
    files = [f"deploy/compose/{name}.yml" for name in names]
    added = [
        service for file in files for service in yaml.safe_load((REPO_ROOT / file).read_text())["services"].values()
    ]
    if why_not := missing(*(name["image"] for name in added if "image" in name)):
        pytest.skip(why_not)
    if os.geteuid() != 0:
        pytest.skip("only root can give the secrets to the user that the containers run as")
    settings = {"BARMILL_SECRETS": str(folder), **environment}
    return Project(f"barmill-test-{names[-1]}", free_ports(1)[0], "", ("docker-compose.yml", *files), settings)


def keep(folder: Path, name: str, secret: str) -> str:
    """Write a secret as the examples say."""
    path = folder / name
    path.write_text(secret + "\n")
    path.chmod(0o400)
    os.chown(path, USER_IN_THE_IMAGE, USER_IN_THE_IMAGE)
    return secret


def test_the_first_admin_signs_in_over_tls_with_the_password_of_the_secret(tmp_path: Path, chromium: Browser) -> None:
    password = keep(tmp_path, "first-admin", secrets.token_urlsafe(18))
    keep(tmp_path, "kek", base64.b64encode(secrets.token_bytes(32)).decode())
    http, https = free_ports(2)
    environment = {"BARMILL_SITE": "localhost", "BARMILL_HTTP_PORT": str(http), "BARMILL_HTTPS_PORT": str(https)}
    address = f"https://localhost:{https}"
    with with_examples(["secrets", "tls"], environment, tmp_path).running() as project:
        sign_in = json.dumps({"public_url": address, "proxy": "10.213.7.0/29"})
        project.compose("exec", "-T", "app", "sh", "-c", "cat > /var/lib/barmill/sign-in.json", given=sign_in)
        project.compose("restart", "app", "proxy")
        project.await_healthy()
        context = chromium.new_context(viewport={"width": 1366, "height": 900}, ignore_https_errors=True)
        page = context.new_page()
        answer = page.goto(address)
        assert answer is not None
        assert "max-age" in answer.headers["strict-transport-security"]
        page.get_by_label("Name").fill("admin")
        page.locator("input[type=password]").fill(password)
        page.keyboard.press("Enter")
        expect(page.locator(".barmill-watchlist tr[data-instrument='OAKR/USD']")).to_be_visible(timeout=120_000)
        open_chart(page, address, "instrument=OAKR%2FUSD&frame=1s")
        after_updates(page, 3)
        assert all(cookie["secure"] for cookie in context.cookies())
        assert not has_a_key_of_its_own(project)


def test_the_keys_are_opened_by_openbao(tmp_path: Path) -> None:
    keep(tmp_path, "vault-token", secrets.token_urlsafe(18))
    with with_examples(["openbao"], {}, tmp_path).running() as project:
        # The market's key is encrypted from the start, so prices flow only where the feed gets it decrypted.
        bars = ("bars", "--instrument", "OAKR/USD", "--frame", "1s", "--format", "csv")
        assert wait_until(
            lambda: project.compose("exec", "-T", "app", "./barmill", *bars).stdout.count("\n") > 5,
            UP_TIMEOUT_S,
            every_s=2.0,
        )
        rotated = json.loads(project.barmill("key", "rotate-kek", "--json"))
        assert rotated["rewrapped"] >= 1
        assert rotated["failed"] == 0
        assert "barmill" in rotated["kek"]
        assert "openbao" in rotated["kek"]
        assert not has_a_key_of_its_own(project)


def has_a_key_of_its_own(project: Project) -> bool:
    return project.compose("exec", "-T", "app", "test", "-e", "/var/lib/barmill/keys/kek").returncode == 0
