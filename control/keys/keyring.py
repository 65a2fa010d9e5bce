"""The key-encryption keys within reach: which one encrypts, and where each that was ever used is found again.

Which one encrypts is a matter of settings, in this order: the transit key that BARMILL_TRANSIT_KEY names, the key file,
BARMILL_KEK. Once something is stored, another one takes its place only by a rotation (rotation.py).
"""

import os
from collections.abc import Set

from bar.clock import now_ms
from bar.sqlite import Database
from control.home import Home
from control.keys.errors import KekError, VaultError
from control.keys.files import LocalKeks, local_keks, make_kek_file, renew_kek_file, retire_kek_file
from control.keys.kek import KeyEncryption
from control.keys.records import used_keks
from control.keys.settings import KEK_VARIABLE, transit_settings
from control.keys.transit import TransitKek
from control.keys.vault import Vault


class Keyring:
    """The key-encryption keys of one home. Every call reads files and settings anew."""

    def __init__(self, home: Home, db: Database) -> None:
        self._home, self._db = home, db

    def find(self, kek_id: str) -> KeyEncryption:
        """Return the key of this id; raise KekError or VaultError when it is out of reach."""
        local = local_keks(self._home)
        found = local.find(kek_id) or self._transit(kek_id)
        if found is None:
            raise self._missing(local)
        return found

    def to_encrypt(self) -> KeyEncryption:
        """Return the key to encrypt with, making one only where nothing is encrypted yet."""
        used = used_keks(self._db)
        wanted = self.wanted(used)
        if not used:
            return wanted or make_kek_file(self._home)
        if wanted is None or wanted.id not in used:
            # The usual reason is a key that was lost or replaced by mistake, and then that is what to say.
            found = [self.find(kek_id) for kek_id in used]
            raise KekError(
                f"The stored keys are encrypted with {found[0].place}, and the settings name"
                f" {wanted.place if wanted else 'no key'}; run ./barmill key rotate-kek to move them,"
                " or put the settings back."
            )
        return wanted

    def wanted(self, used: Set[str]) -> KeyEncryption | None:
        """Return the key that the settings name, or None where there is no key at all.

        Of a transit key, the newest generation that is in use, once it is proved to be the same key, else a fresh one.
        """
        settings = transit_settings()
        if settings is None:
            return local_keks(self._home).present
        generations = self._db.conn.execute(
            "SELECT id FROM transit_keys WHERE mount = ? AND name = ? ORDER BY created_ms DESC, rowid DESC",
            (settings.mount, settings.name),
        )
        kek = next((self._transit(kek_id) for (kek_id,) in generations.fetchall() if kek_id in used), None)
        if kek is None:
            return TransitKek.fresh(Vault.from_environment(), settings.mount, settings.name)
        kek.check()
        return kek

    def renewed(self, kek: KeyEncryption) -> KeyEncryption:
        """Make a new key at the place of this one, which stays able to decrypt."""
        if isinstance(kek, TransitKek):
            return kek.renewed()
        if os.environ.get(KEK_VARIABLE):
            raise KekError(
                f"A key in {KEK_VARIABLE} is renewed by whoever sets it: set it to NEW,OLD, with a new key in front"
                " (`head -c 32 /dev/urandom | base64` makes one), and call this again."
            )
        return renew_kek_file(self._home)

    def made(self) -> KeyEncryption:
        """Make the key file where there is no key for new secrets."""
        return make_kek_file(self._home)

    def remember(self, kek: KeyEncryption) -> None:
        """Note where a key is found again, in the transaction that writes the first row which needs it."""
        if isinstance(kek, TransitKek):
            row = {"id": kek.id, "mount": kek.mount, "name": kek.name, "proof": kek.proof, "created_ms": now_ms()}
            self._db.table("transit_keys").insert(row, pk="id", ignore=True)

    def settle(self, kek: KeyEncryption) -> None:
        """Keep a key file that no longer encrypts out of the way of what does; it still decrypts."""
        if isinstance(kek, TransitKek):
            retire_kek_file(self._home)

    def _transit(self, kek_id: str) -> TransitKek | None:
        row = self._db.conn.execute("SELECT mount, name, proof FROM transit_keys WHERE id = ?", (kek_id,)).fetchone()
        if row is None:
            return None
        mount, name, proof = row
        try:
            return TransitKek(Vault.from_environment(), mount, name, kek_id, proof)
        except VaultError as error:
            raise KekError(f"The stored keys need the transit key {mount}/{name}: {error}") from None

    def _missing(self, local: LocalKeks) -> KekError:
        path = self._home.keys / "kek"
        if local.present is None:
            return KekError(
                f"The key file {path} is missing, and with it the way to read the stored keys;"
                f" put it back, or set {KEK_VARIABLE} to its content."
            )
        return KekError(
            "The stored keys were encrypted with another key-encryption key than the present one;"
            f" put the right one into {path} or {KEK_VARIABLE}, or delete the stored keys."
        )
