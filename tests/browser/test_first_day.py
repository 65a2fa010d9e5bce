"""A first day with Barmill, in a real browser on a real cluster; and nothing of it gives a secret away."""

import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from barmill.audit.roles import Actor, Role
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, free_ports, read_ports
from barmill.platform.tls import TlsFiles
from barmill.secrets.store import KeyStore
from control.jobs.model import Desired
from control.jobs.service import JobService
from control.jobs.views import job_views
from tests.browser.conftest import TIMEOUT_MS, sign_in
from tests.support.browser_feeds import choose
from tests.support.canary import canary, leaks
from tests.support.candles import after_updates, seen, wait_for
from tests.support.exchanges.rest_server import Asked, Reply, standing_in
from tests.support.up import Barmill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PASSWORD = "a horse, a battery, a staple"
LONG_MS = 180_000
FIRST_BARS = ("--instrument", "fx:EUR/USD", "--frame", "1s", "--format", "json")


@pytest.fixture(scope="module")
def barmill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barmill]:
    """A Barmill that was never started."""
    barmill = Barmill(Home(tmp_path_factory.mktemp("first") / "home"), free_ports(1)[0])
    yield barmill
    barmill.call("down")


def picture(page: Page, folder: Path, name: str) -> None:
    """Keep what the page looks like, for people to look at."""
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def menu(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def test_from_the_first_start_to_a_restart_and_no_secret_gets_out(
    barmill: Barmill, chromium: Browser, tmp_path: Path
) -> None:
    # First start: the link that is printed once leads to a password, and then to live prices.
    started = barmill.up()
    assert started.returncode == 0, started.stderr
    found = re.search(rf"http://{LOOPBACK}:{barmill.port}/welcome\?token=\S+", started.stdout)
    assert found
    context = chromium.new_context(viewport={"width": 1366, "height": 900}, color_scheme="dark")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(found[0])
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator(".barmill-watchlist tr[data-instrument='OAKR/USD']")).to_be_visible(timeout=LONG_MS)
    picture(page, tmp_path, "1-overview")

    # A key, whose secret is never shown again.
    secret = canary()
    menu(page, "API keys")
    page.get_by_role("button", name="Add a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("planted")
    dialog.locator("input[type=password]").fill(secret)
    dialog.get_by_role("button", name="Add").last.click()
    expect(page.get_by_role("heading", name="planted")).to_be_visible()
    expect(dialog).to_have_count(0)
    picture(page, tmp_path, "2-keys")

    # An instrument less, and back again.
    disabled = barmill.call("instrument", "disable", "QUIB/USD")
    assert disabled.returncode == 0, disabled.stderr
    menu(page, "Instruments")
    expect(page.get_by_text("19 of 20 enabled")).to_be_visible(timeout=LONG_MS)
    picture(page, tmp_path, "3-instruments")
    assert barmill.call("instrument", "enable", "QUIB/USD").returncode == 0
    expect(page.get_by_text("20 of 20 enabled")).to_be_visible(timeout=LONG_MS)

    # A new job, from its creation to bars on the chart.
    menu(page, "Jobs")
    page.get_by_role("button", name="Create a job").click()
    dialog.get_by_role("textbox", name="Name").fill("fives")
    dialog.get_by_role("textbox", name="Frames").fill("5s")
    dialog.get_by_role("button", name="Create").first.click()
    expect(page.get_by_role("heading", name="fives")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    state = page.get_by_text("The job is running.")
    expect(state).to_be_visible(timeout=LONG_MS)
    picture(page, tmp_path, "4-job-running")
    page.goto(f"http://{LOOPBACK}:{barmill.port}/chart?instrument=OAKR%2FUSD&frame=5s")
    after_updates(page, 2)
    assert seen(page).view == "OAKR/USD 5s"
    picture(page, tmp_path, "5-chart")

    # Stopped with a savepoint, and on from it.
    page.goto(f"http://{LOOPBACK}:{barmill.port}/jobs?job=fives")
    page.get_by_role("button", name="Stop with savepoint").click()
    expect(page.get_by_text(re.compile("job is stopped|Stopped with a savepoint")).first).to_be_visible(timeout=LONG_MS)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(state).to_be_visible(timeout=LONG_MS)
    page.get_by_role("button", name="Restart", exact=True).click()
    under_way = page.get_by_text("Restart in progress")
    expect(under_way).to_be_visible(timeout=LONG_MS)
    expect(under_way).to_have_count(0, timeout=LONG_MS)
    expect(state).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_role("button", name="Restart", exact=True)).to_be_enabled()
    picture(page, tmp_path, "6-job-restarted")
    verdict = barmill.call("verify")
    assert verdict.returncode == 0, verdict.stdout
    log = barmill.call("audit", "verify-log")
    assert log.returncode == 0, log.stderr

    # The planted secret, and the one in use, are nowhere but in the encrypted store.
    with KeyStore.open(barmill.home, Actor("a test")) as store:
        in_use = store.reveal("demo-market")
    spoken: list[str | bytes] = [
        *command_outputs(barmill),
        *flink_answers(barmill.home),
        *process_surroundings(barmill),
    ]
    for name in ("API keys", "Jobs", "Monitoring", "Data quality", "Audit", "Accounts"):
        menu(page, name)
        spoken.append(page.content())
    for value in (secret, in_use):
        assert leaks(value, barmill.home.root, *spoken) == []
    context.close()


def test_from_a_key_to_a_chart_of_prices_from_elsewhere(barmill: Barmill, chromium: Browser, tmp_path: Path) -> None:
    assert barmill.up().returncode == 0
    (barmill.home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.1"]}')
    secret, numbers = canary(), itertools.count(1)
    accepted = secret

    def prices(asked: Asked) -> Reply:
        if asked.headers.get("x-key") != accepted:
            return Reply({"error": f"unknown key {asked.headers.get('x-key')}"}, 401)
        number = next(numbers)
        return Reply({"data": [{"t": now_ms(), "s": "EUR/USD", "p": 1 + number % 7 / 100, "n": number}]})

    added = barmill.call("key", "add", "theirs", "--provider", "rest", given=secret)
    assert added.returncode == 0, added.stderr
    context = chromium.new_context(viewport={"width": 1366, "height": 900}, color_scheme="dark")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    sign_in(page, barmill.home, Role.ADMIN)
    with standing_in(prices) as server:
        rows = {"rows": "data", "time": "t", "instrument": "s", "price": "p", "id": "n"}
        settings = {"base_url": server.url, "headers": {"X-Key": "{key}"}, "period_s": 0.5, "rows": rows}
        page.goto(f"http://{LOOPBACK}:{barmill.port}/feeds")
        page.get_by_role("button", name="Add a feed").click()
        choose(page, "Feed type", "Custom settings")
        choose(page, "Kind", "rest")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("textbox", name="Name").fill("fx")
        dialog.get_by_role("textbox", name="Settings").fill(json.dumps({**settings, "instruments": ["EUR/USD"]}))
        choose(page, "Key", "theirs")
        dialog.get_by_role("button", name="Try it").click()
        expect(dialog.get_by_text("1 tick, 0 rejects.")).to_be_visible(timeout=LONG_MS)
        picture(page, tmp_path, "feed-tried")
        dialog.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_text("The feed fx is added")).to_be_visible(timeout=LONG_MS)
        address = f"http://{LOOPBACK}:{barmill.port}/chart?instrument=fx%3AEUR%2FUSD&frame=1s"
        assert wait_until(lambda: "fx:EUR/USD" in barmill.call("bars", *FIRST_BARS).stdout, 120, every_s=1)
        page.goto(address)
        after_updates(page, 3)
        wait_for(page, "data.stale === 'false'")
        expect(page.get_by_text("Simulated data")).to_have_count(0)
        picture(page, tmp_path, "feed-chart")

        # The provider takes the key back: this chart says why it stopped, and other charts continue.
        accepted = "another"
        wait_for(page, "data.stale === 'true'")
        expect(page.get_by_text("No new prices: ").first).to_be_visible(timeout=LONG_MS)
        picture(page, tmp_path, "feed-refused")
        shown = page.content()
        page.goto(f"http://{LOOPBACK}:{barmill.port}/chart?instrument=OAKR%2FUSD&frame=1s")
        after_updates(page, 3)
        wait_for(page, "data.stale === 'false'")
        expect(page.get_by_text("Simulated data").first).to_be_visible()
    assert barmill.call("instrument", "feed", "delete", "fx").returncode == 0
    assert leaks(secret, barmill.home.root, shown, *command_outputs(barmill)) == []
    context.close()


def test_ten_starts_at_once_from_five_browsers_and_the_command_line_give_ten_jobs(
    barmill: Barmill, chromium: Browser
) -> None:
    assert barmill.up().returncode == 0
    names = [f"many-{number}" for number in range(10)]
    with JobService.open(barmill.home, Actor("a test")) as service:
        for number, name in enumerate(names):
            # Twelve jobs that look twenty times a second would need more cores than a laptop has.
            service.create(json.dumps({"name": name, "frames": f"{7 + number}s", "poll_ms": 5_000}))
    contexts = [chromium.new_context() for _ in names[:5]]
    for context in contexts:
        context.set_default_timeout(LONG_MS)
    pages = []
    for context, name in zip(contexts, names, strict=False):
        sign_in(context.new_page(), barmill.home, Role.ADMIN)
        page = context.pages[0]
        page.goto(f"http://{LOOPBACK}:{barmill.port}/jobs?job={name}")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=LONG_MS)
        pages.append(page)
    commands = [
        subprocess.Popen(
            barmill.command("job", "start", name), env=barmill.environment, cwd="/", stdout=subprocess.DEVNULL
        )
        for name in names[5:]
    ]
    for page in pages:
        page.get_by_role("button", name="Start", exact=True).click()
    assert [command.wait() for command in commands] == [0] * 5

    def asked_for() -> bool:
        wished = {view.name: view.desired for view in job_views(barmill.home)}
        return all(wished[name] == Desired.RUNNING for name in names)

    assert wait_until(asked_for, 120), job_views(barmill.home)
    # All is said; five pages that keep painting would take the cores from the ten jobs.
    for context in contexts:
        context.close()
    assert wait_until(lambda: all(as_desired(barmill, names)), 400, every_s=4), barmill.call("job", "list").stdout
    wanted = {job["name"]: job["run"] for job in jobs(barmill) if job["desired"] == "running"}
    listed = [job for job in flink_jobs(barmill.home) if job["state"] == "RUNNING"]
    assert sorted((key["name"], key["jid"]) for key in listed) == sorted(wanted.items())
    assert set(names) <= set(wanted)
    with JobService.open(barmill.home, Actor("a test")) as service:
        for name in names:
            service.delete(name)
    assert wait_until(lambda: not {job["name"] for job in jobs(barmill)} & {*names}, 120, every_s=1)


def test_a_pending_rescale_survives_the_taskmanager(barmill: Barmill) -> None:
    assert barmill.up().returncode == 0
    spec = barmill.home.root / "wide.json"
    spec.write_text('{"name": "wide", "frames": "3s", "shards": 4}')
    assert barmill.call("job", "create", str(spec)).returncode == 0
    assert barmill.call("job", "start", "wide", "--wait").returncode == 0
    asked = barmill.call("job", "rescale", "wide", "40", "--wait", "--timeout", "30")
    assert asked.returncode == 1
    assert "Rescaling is pending: the job runs on " in asked.stderr
    [taskmanager] = [process["pid"] for process in barmill.status()["processes"] if process["name"] == "taskmanager"]
    os.kill(taskmanager, signal.SIGKILL)
    assert wait_until(lambda: not all(as_desired(barmill, ["wide"])) or replaced(barmill, taskmanager), 60, every_s=0.5)

    def pending_again() -> bool:
        [wide] = [job for job in jobs(barmill) if job["name"] == "wide"]
        operation = wide["operation"] or {}
        return (
            wide["state"] == "RUNNING" and "pending" in operation.get("sentence", "") and replaced(barmill, taskmanager)
        )

    assert wait_until(pending_again, 120, every_s=1), barmill.call("job", "list").stdout
    assert barmill.call("job", "delete", "wide", "--wait").returncode == 0


def jobs(barmill: Barmill) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(barmill.call("job", "list", "--json").stdout)
    return listed


def as_desired(barmill: Barmill, names: list[str]) -> list[bool]:
    return [job["state"].lower() == job["desired"] for job in jobs(barmill) if job["name"] in names]


def replaced(barmill: Barmill, pid: int) -> bool:
    """Tell whether another TaskManager runs in the place of the one with this process id."""
    found = [process["pid"] for process in barmill.status()["processes"] if process["name"] == "taskmanager"]
    return bool(found and found[0]) and found != [pid]


def flink_jobs(home: Home) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = _flink(home, "/jobs/overview").json()["jobs"]
    return listed


def command_outputs(barmill: Barmill) -> list[str]:
    """Return what every command that looks at something says."""
    calls = [
        *(("status",), ("status", "--json"), ("key", "list"), ("key", "list", "--json"), ("key", "history", "planted")),
        *(("key", "test", "planted"), ("job", "list", "--json"), ("job", "show", "fives", "--json"), ("user", "list")),
        *(("audit", "list", "--limit", "0", "--json"), ("audit", "list"), ("instrument", "list", "--json")),
    ]
    return [answer.stdout + answer.stderr for answer in (barmill.call(*call) for call in calls)]


def flink_answers(home: Home) -> list[str]:
    """Return what Flink's REST API returns to any client, including its logs."""
    paths = ["/config", "/jobmanager/config", "/jobmanager/environment", "/jobs/overview", "/jars", "/taskmanagers"]
    paths += [f"/jobmanager/logs/{log['name']}" for log in _flink(home, "/jobmanager/logs").json()["logs"]]
    for manager in _flink(home, "/taskmanagers").json()["taskmanagers"]:
        logs = _flink(home, f"/taskmanagers/{manager['id']}/logs").json()["logs"]
        paths += [f"/taskmanagers/{manager['id']}/logs/{log['name']}" for log in logs]
    for job in _flink(home, "/jobs/overview").json()["jobs"]:
        paths += [f"/jobs/{job['jid']}{part}" for part in ("", "/config", "/exceptions", "/plan", "/checkpoints")]
    return [_flink(home, path).text for path in paths]


def _flink(home: Home, path: str) -> requests.Response:
    ports, tls = read_ports(home), TlsFiles(home.tls)
    assert ports
    return requests.get(
        f"https://{LOOPBACK}:{ports.jobmanager_rest}{path}",
        cert=(str(tls.certificate), str(tls.key)),
        verify=str(tls.certificate),
        timeout=30,
    )


def process_surroundings(barmill: Barmill) -> list[bytes]:
    """Return command line and environment of every process of this home."""
    mark, found = os.fsencode(barmill.home.root), list[bytes]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                both = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if mark in both:
                found.append(both)
    assert len(found) >= 6
    return found
