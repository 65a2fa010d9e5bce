"""A TLS server with a self-signed certificate."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@contextmanager
def untrusted(folder: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Run the server until the block ends; return its port, and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_own_certificate(folder))
    heard = list[bytes]()
    with create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    connection, _ = server.accept()
                    with suppress(ssl.SSLError, OSError), context.wrap_socket(connection, server_side=True) as client:
                        heard.append(client.recv(65_536))

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(2)
    thread.join()


def _own_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name, today = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        made.not_valid_before(today)
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
    )
    return path
