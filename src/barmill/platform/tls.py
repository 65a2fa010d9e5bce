"""TLS between the processes of a home: the location of its certificate, and how a client presents it.

A program that reaches Flink can run code as this user, and loopback is open to every user of the machine and, by DNS
rebinding, to any web page. Both sides of a connection must therefore hold the private key of the home, which only its
owner can read. barmill/platform/certificates.py creates the key and the certificate.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TlsFiles:
    """The files of a home's certificate, each readable by its owner only.

    One self-signed certificate identifies server and client, and is the only one that either side trusts.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        """Return the path of the certificate in PEM."""
        return self.folder / "certificate.pem"

    @property
    def key(self) -> Path:
        """Return the path of the private key in PEM, not encrypted."""
        return self.folder / "key.pem"

    @property
    def keystore(self) -> Path:
        """Return the path of certificate and private key in PKCS12, for Java."""
        return self.folder / "keystore.p12"

    @property
    def truststore(self) -> Path:
        """Return the path of the certificate in PKCS12, for Java."""
        return self.folder / "truststore.p12"

    @property
    def password_file(self) -> Path:
        """Return the path of the password of both PKCS12 files, and of PyFlink's gateway in the JobManager."""
        return self.folder / "password"

    def password(self) -> str:
        """Return the password of the PKCS12 files. Raise OSError if there is none."""
        return self.password_file.read_text().strip()

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context for clients of the home's servers. Raise OSError if there is no certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.load_cert_chain(self.certificate, self.key)
        return context
