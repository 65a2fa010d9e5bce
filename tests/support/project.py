"""One Compose project of these tests alone: started, asked, broken and taken down."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT
from barmill.platform.ports import LOOPBACK

UP_TIMEOUT_S = 420
BARMILL = "barmill:local"
_ALWAYS = ("jobmanager", "taskmanager", "market", "ingest", "controller", "app")
_WITH_KAFKA = ("kafka", "shipper", "materialiser")


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def missing(*images: str) -> str:
    """Say what is not here that these tests need, or ''."""
    if shutil.which("docker") is None:
        return "there is no Docker here"
    if docker("info").returncode != 0:
        return "no Docker engine can be reached; tests/cluster/docker/engine.sh starts one"
    for image in (BARMILL, *images):
        if docker("image", "inspect", image).returncode != 0:
            return f"there is no image {image}; tests/cluster/docker/engine.sh makes it"
    return "" if compose_command() else "there is no Docker Compose here"


def compose_command() -> Sequence[str]:
    if docker("compose", "version").returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


@dataclass
class Project:
    """The containers of one profile, published on one port of loopback."""

    name: str
    port: int
    profile: str
    files: Sequence[str] = ("docker-compose.yml",)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = field(default_factory=compose_command)

    @property
    def services(self) -> Sequence[str]:
        return (*_ALWAYS, *(_WITH_KAFKA if self.profile == "kafka" else ()))

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def compose(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        files = (part for name in self.files for part in ("--file", name))
        return subprocess.run(
            [*self.command, "--project-name", self.name, *files, *arguments],
            cwd=REPO_ROOT,
            env={**os.environ, "COMPOSE_PROFILES": self.profile, "BARMILL_PORT": str(self.port), **self.environment},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Have everything up and well, until the block ends."""
        try:
            self.up()
            self.await_healthy()
            yield self
        finally:
            self.down()

    def up(self, *arguments: str) -> None:
        done = self.compose("up", "--detach", *arguments)
        assert done.returncode == 0, done.stderr[-3_000:]

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")

    def barmill(self, *arguments: str, given: str | None = None) -> str:
        """Call the command line in the app's container and return what it prints."""
        done = self.compose("exec", "-T", "app", "./barmill", *arguments, given=given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def flink(self, path: str) -> Any:
        """Ask the JobManager from where it may be asked."""
        program = (
            "import urllib.request; from barmill.platform.home import Home; from barmill.platform.tls import TlsFiles\n"
            f"url, context = 'https://jobmanager:8081{path}', TlsFiles(Home.find().tls).client_context()\n"
            "print(urllib.request.urlopen(url, context=context).read().decode())"
        )
        done = self.compose("exec", "-T", "controller", "/opt/venv/bin/python", "-c", program)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).stdout.split()

    def state(self, container: str) -> Any:
        return json.loads(docker("inspect", "--format", "{{json .State}}", container).stdout)

    def ailing(self) -> list[str]:
        """Return the services that are not all healthy, and how they are."""
        found = list[str]()
        for service in self.services:
            containers = self.containers(service)
            states = [self.state(container)["Health"]["Status"] for container in containers]
            found += [f"{service}: {states}"] if not states or set(states) != {"healthy"} else []
        return found

    def await_healthy(self) -> None:
        assert wait_until(lambda: not self.ailing(), UP_TIMEOUT_S, every_s=2.0), self._story()

    def _story(self) -> str:
        ailing = self.ailing()
        logs = self.compose("logs", "--tail", "15", *(line.partition(":")[0] for line in ailing))
        return "\n".join([*ailing, logs.stdout[-6_000:]])
