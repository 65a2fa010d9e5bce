"""TLS between the processes of a home: where its certificate is, and how a client of our own presents it.

A program that reaches Flink can run code as this user, and loopback is open to every user of the machine and, by DNS
rebinding, to any web page. So both sides of a connection must hold the private key of the home, which only its owner
can read. control/machine/certificates.py makes it.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TlsFiles:
    """The files of a home's certificate; each is readable by its owner only.

    One self-signed certificate identifies server and client, and is the only one that either trusts.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        """Certificate in PEM."""
        return self.folder / "certificate.pem"

    @property
    def key(self) -> Path:
        """Private key in PEM, not encrypted."""
        return self.folder / "key.pem"

    @property
    def keystore(self) -> Path:
        """Certificate and private key in PKCS12, for Java."""
        return self.folder / "keystore.p12"

    @property
    def truststore(self) -> Path:
        """Certificate in PKCS12, for Java."""
        return self.folder / "truststore.p12"

    @property
    def password_file(self) -> Path:
        """Password of both PKCS12 files."""
        return self.folder / "password"

    def password(self) -> str:
        """Return the password of the PKCS12 files; raise OSError where there is none."""
        return self.password_file.read_text().strip()

    def client_context(self) -> ssl.SSLContext:
        """Return what a client needs to reach the home's servers; raise OSError where there is no certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.load_cert_chain(self.certificate, self.key)
        return context
