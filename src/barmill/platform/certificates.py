"""The certificate of a home: created if it is missing or unusable, does not name the host, or expires within a year."""

import ipaddress
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    load_pkcs12,
    serialize_java_truststore,
    serialize_key_and_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from barmill.platform.home import Home
from barmill.platform.locks import exclusive
from barmill.platform.ports import LOOPBACK
from barmill.platform.tls import TlsFiles

_VALID_FOR = timedelta(days=3_650)
_RENEW_BEFORE_END = timedelta(days=365)
# Fixed, so that a clock set back does not make the certificate invalid.
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_ALIAS = b"barmill"


def ensure_certificate(home: Home, host: str = LOOPBACK, now: datetime | None = None) -> TlsFiles:
    """Return the certificate files of a home, valid for this host and for loopback. Usable ones are never replaced.

    Running processes do not know a new certificate, so call this before they start. Several processes may call this at
    the same time.
    """
    files, now = TlsFiles(home.tls), now or datetime.now(UTC)
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(home.run / "tls.lock"):
        if not _is_usable(files, {host, LOOPBACK}, now):
            _replace_folder(files.folder, _new_files({host, LOOPBACK, "localhost"}, now))
    return files


def _is_usable(files: TlsFiles, hosts: set[str], now: datetime) -> bool:
    """Return whether all files are readable, and the certificate fits key and hosts and does not expire soon."""
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for store in (files.keystore, files.truststore):
            load_pkcs12(store.read_bytes(), files.password().encode())
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    names = {*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))}
    return (
        key.public_key() == certificate.public_key()
        and hosts <= names
        and certificate.not_valid_after_utc - now > _RENEW_BEFORE_END
    )


def _new_files(hosts: set[str], now: datetime) -> Mapping[str, bytes]:
    """Return the content of each file of a new certificate, by file name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Barmill")])
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in sorted(hosts)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    password = secrets.token_hex(24).encode()
    encryption = _encryption(password)
    files = TlsFiles(Path())
    return {
        files.certificate.name: certificate.public_bytes(Encoding.PEM),
        files.key.name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        files.keystore.name: serialize_key_and_certificates(_ALIAS, key, certificate, None, encryption),
        files.truststore.name: serialize_java_truststore([PKCS12Certificate(certificate, _ALIAS)], encryption),
        files.password_file.name: password + b"\n",
    }


def _encryption(password: bytes) -> KeySerializationEncryption:
    """Encrypt with one key derivation round: a random password cannot be guessed, and Flink opens the files often."""
    builder = PrivateFormat.PKCS12.encryption_builder()
    return builder.kdf_rounds(1).key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256()).build(password)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace a folder with one that contains these files. All of them appear at once."""
    new_folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))  # mode 0700
    try:
        for name, content in contents.items():
            with os.fdopen(os.open(new_folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        shutil.rmtree(folder, ignore_errors=True)
        new_folder.rename(folder)
    finally:
        shutil.rmtree(new_folder, ignore_errors=True)
