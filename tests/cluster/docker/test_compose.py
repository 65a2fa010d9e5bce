"""Both profiles of docker-compose.yml on a real engine, with a real browser before them."""

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from barmill.platform.clock import wait_until
from tests.support.candles import after_updates, open_chart
from tests.support.project import UP_TIMEOUT_S, Project, docker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]
PASSWORD = "a horse, a battery, a staple"
LONG_MS = 120_000


@pytest.fixture(scope="module")
def page(project: Project, chromium: Browser) -> Page:
    """A browser that the first admin has signed in with, by the link that the command line prints."""
    logs = project.compose("logs", "app").stdout
    assert "./barmill user link admin" in logs
    found = re.search(r"http://\S+/welcome\?token=\S+", project.barmill("user", "link", "admin"))
    assert found
    assert found[0].startswith(project.address)
    page = chromium.new_context(viewport={"width": 1366, "height": 900}).new_page()
    page.goto(found[0])
    for locator in page.locator("input[type=password]").all():
        locator.fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator(".barmill-watchlist tr[data-instrument='OAKR/USD']")).to_be_visible(timeout=LONG_MS)
    return page


def test_a_chart_moves_behind_the_published_port(project: Project, page: Page) -> None:
    open_chart(page, project.address, "instrument=OAKR%2FUSD&frame=1s")
    after_updates(page, 3)


def test_the_jobmanager_is_reached_from_its_own_network_alone(project: Project) -> None:
    assert project.flink("/overview")["taskmanagers"] == 1
    ask = "import socket; socket.create_connection(('jobmanager', 8081), timeout=5)"
    for service in ("app", "ingest", "market"):
        assert project.compose("exec", "-T", service, "/opt/venv/bin/python", "-c", ask).returncode != 0, service
    published = docker("ps", "--filter", f"label=com.docker.compose.project={project.name}", "--format", "{{.Ports}}")
    assert re.findall(r"(\S+)->", published.stdout) == [f"127.0.0.1:{project.port}"]


def test_nothing_runs_as_root_or_writes_into_its_image(project: Project) -> None:
    for service in project.services:
        (container,) = project.containers(service)
        assert docker("exec", container, "id", "-u").stdout.strip() not in ("", "0"), service
        if service != "kafka":
            assert docker("exec", container, "touch", "/opt/barmill/x").returncode != 0, service


def test_each_container_may_be_lost(project: Project) -> None:
    for service in project.services:
        (container,) = project.containers(service)
        # A crash: all that the first process of the container holds dies, and the engine starts it again.
        started = project.state(container)["StartedAt"]
        docker("exec", container, "bash", "-c", "kill -KILL -1")
        assert wait_until(lambda name=container, at=started: project.state(name)["StartedAt"] != at, 60.0), service  # type: ignore[misc]
        # Docker does not restart a container that was killed by name until it is started again.
        assert docker("kill", container).returncode == 0, service
        project.up("--no-recreate")
        project.await_healthy()
    assert wait_until(lambda: newest_tick_age_s(project) < 10, UP_TIMEOUT_S, every_s=2.0)
    project.barmill("verify")  # which fails if any bar differs from a recomputation


def newest_tick_age_s(project: Project) -> float:
    """Return how old the newest tick in any bar is."""
    status = project.compose("exec", "-T", "app", "./barmill", "status", "--json").stdout
    return float(json.loads(status)["newest_tick_age_s"] or 1e9)


def test_a_job_takes_the_slots_of_more_taskmanagers(project: Project, page: Page) -> None:
    kafka = {"source": "kafka", "sink": "kafka"} if project.profile == "kafka" else {"shards": 8}
    project.barmill("job", "create", "-", given=json.dumps({"name": "wide", "frames": "10s", **kafka}))
    project.barmill("job", "start", "wide", "--wait")
    page.goto(f"{project.address}/jobs?job=wide")
    page.get_by_role("button", name="Rescale", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("spinbutton", name="Slots").fill("8")
    dialog.get_by_role("button", name="Rescale").click()
    expect(page.get_by_text("wide is being rescaled to 8.")).to_be_visible(timeout=LONG_MS)
    # Three of the four slots are free, and so many it takes.
    assert wait_until(lambda: widest(project) == 3, UP_TIMEOUT_S, every_s=2.0)
    project.up("--no-recreate", "--scale", "taskmanager=3")
    assert wait_until(lambda: project.flink("/overview")["slots-total"] == 12, UP_TIMEOUT_S, every_s=2.0)
    assert wait_until(lambda: widest(project) == 8, UP_TIMEOUT_S, every_s=2.0)
    project.barmill("verify")


def widest(project: Project) -> int:
    """Return how many subtasks the widest part of the job `wide` has."""
    running = [job["jid"] for job in project.flink("/jobs/overview")["jobs"] if job["name"] == "wide"]
    parts = [part for job in running for part in project.flink(f"/jobs/{job}")["vertices"]]
    return max((part["parallelism"] for part in parts if part["status"] == "RUNNING"), default=0)
