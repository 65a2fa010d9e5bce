"""A real OpenBao server in dev mode, all in memory, for the tests of what is kept or done there."""

import itertools
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from barmill.platform.clock import wait_until
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.secrets.settings import ADDRESS_VARIABLE, TOKEN_VARIABLE, TRANSIT_KEY_VARIABLE

BINARY = Path(sys.executable).parent / "bao"
START_TIMEOUT_S = 30


@dataclass
class OpenBao:
    """A running server, its root's client, and what it takes to unseal it."""

    address: str
    root_token: str
    unseal_key: str
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def client(self) -> Any:
        """A client that may do everything."""
        return hvac.Client(self.address, self.root_token)

    def token(self, rights: Mapping[str, str]) -> str:
        """Return a new token that may do only this: a capability by path."""
        name = f"policy-{next(self._numbers)}"
        rules = ("# what is not named is denied", *(_rule(path, what) for path, what in rights.items()))
        self.client.sys.create_or_update_policy(name, "\n".join(rules))
        return str(self.client.auth.token.create(policies=[name])["auth"]["client_token"])

    def new_transit_key(self) -> str:
        """Create a transit key for one test; return its name."""
        name = f"key-{next(self._numbers)}"
        self.client.secrets.transit.create_key(name)
        return name

    def use(self, monkeypatch: pytest.MonkeyPatch, *, token: str | None = None, key: str | None = None) -> None:
        """Set the environment so that Barmill reaches this server, and encrypts with a transit key if one is named."""
        monkeypatch.setenv(ADDRESS_VARIABLE, self.address)
        monkeypatch.setenv(TOKEN_VARIABLE, token or self.root_token)
        if key:
            monkeypatch.setenv(TRANSIT_KEY_VARIABLE, key)

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """Seal the server for the block."""
        self.client.sys.seal()
        try:
            yield
        finally:
            self.client.sys.submit_unseal_key(self.unseal_key)
            assert wait_until(self.ready, START_TIMEOUT_S)

    def ready(self) -> bool:
        """Tell whether it answers and is not sealed."""
        try:
            return requests.get(f"{self.address}/v1/sys/health", timeout=1).ok
        except requests.ConnectionError:
            return False


@contextmanager
def running_openbao(folder: Path) -> Iterator[OpenBao]:
    """Run a server until the block ends."""
    (port,) = free_ports(1)
    log, token = folder / "openbao.log", secrets.token_hex(16)
    command = [
        *(str(BINARY), "server", "-dev", "-dev-no-store-token"),
        *(f"-dev-root-token-id={token}", f"-dev-listen-address={LOOPBACK}:{port}"),
    ]
    with log.open("wb") as output:
        environment = {"PATH": os.defpath, "HOME": str(folder)}
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    bao = OpenBao(f"http://{LOOPBACK}:{port}", token, "")
    try:
        started = wait_until(lambda: server.poll() is not None or _unseal_key(log) != "", START_TIMEOUT_S)
        assert started, log.read_text()
        assert wait_until(bao.ready, START_TIMEOUT_S), log.read_text()
        bao.unseal_key = _unseal_key(log)
        bao.client.sys.enable_secrets_engine("transit")
        yield bao
    finally:
        server.terminate()
        server.wait()


def _rule(path: str, capability: str) -> str:
    return f'path "{path}" {{ capabilities = ["{capability}"] }}'


def _unseal_key(log: Path) -> str:
    found = re.search(r"Unseal Key: (\S+)\n", log.read_text())
    return found[1] if found else ""
