"""The certificate of a home: made when it is missing, does not name the host, or is about to expire."""

import fcntl
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

from control.home import Home
from control.machine.ports import LOOPBACK
from control.machine.tls import TlsFiles

_VALID_FOR = timedelta(days=3_650)
_RENEWED_BEFORE_END = timedelta(days=365)
# Fixed, so that a clock set back does not make the certificate invalid.
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_NAME = b"barmill"


def ensure_certificate(home: Home, host: str = LOOPBACK, now: datetime | None = None) -> TlsFiles:
    """Return the certificate of a home, valid for this host and for loopback; a usable one is never replaced.

    A new one is unknown to processes that already run, so call this before they start. Safe to call from several
    processes at once.
    """
    files, now = TlsFiles(home.tls), now or datetime.now(UTC)
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.run / "tls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _usable(files, {host, LOOPBACK}, now):
            _replace(files.folder, _made({host, LOOPBACK, "localhost"}, now))
    return files


def _usable(files: TlsFiles, hosts: set[str], now: datetime) -> bool:
    """Tell whether all files are there and can be read, and the certificate fits them and the hosts."""
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for store in (files.keystore, files.truststore):
            load_pkcs12(store.read_bytes(), files.password().encode())
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    names = {*named.get_values_for_type(x509.DNSName), *map(str, named.get_values_for_type(x509.IPAddress))}
    return (
        key.public_key() == certificate.public_key()
        and hosts <= names
        and certificate.not_valid_after_utc - now > _RENEWED_BEFORE_END
    )


def _made(hosts: set[str], now: datetime) -> Mapping[str, bytes]:
    """Return the content of a new certificate's files by their names."""
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
        files.keystore.name: serialize_key_and_certificates(_NAME, key, certificate, None, encryption),
        files.truststore.name: serialize_java_truststore([PKCS12Certificate(certificate, _NAME)], encryption),
        files.password_file.name: password + b"\n",
    }


def _encryption(password: bytes) -> KeySerializationEncryption:
    """Encrypt with one round: a random password cannot be guessed, and Flink opens the files again and again."""
    builder = PrivateFormat.PKCS12.encryption_builder()
    return builder.kdf_rounds(1).key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256()).build(password)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _replace(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put a folder with these files in the place of the one that is there, complete or not at all."""
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))  # mode 0700
    try:
        for name, content in contents.items():
            with os.fdopen(os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
