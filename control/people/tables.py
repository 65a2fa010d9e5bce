"""The tables of people, in the control database. No password and no token is in any of them, only hashes.

    accounts          name, role, password_hash, disabled, created_ms, last_seen_ms, identity
    sessions          token_hash, id, account, created_ms, last_seen_ms, idle_ms, expires_ms, address, user_agent
    welcome_links     account, token_hash, expires_ms
    sign_in_failures  key, failures, last_ms
    preferences       account, settings, changed_ms

accounts.identity: whom an OIDC provider means, as "issuer subject"; NULL for an account with a password of its own.
sessions.idle_ms: how long a session lives unused, expires_ms: when it ends in any case.
preferences.settings: JSON of what was chosen, without what is still the default.
"""

from bar.sqlite import Database, Migrations

account_migrations = Migrations("accounts")


@account_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    db.table("accounts").create(
        {"name": str, "role": str, "password_hash": str, "disabled": int, "created_ms": int},
        pk="name",
        not_null={"name", "role", "disabled", "created_ms"},
        strict=True,
    )


@account_migrations()
def add_sign_in(db: Database) -> None:
    """Make room for sign-in: sessions, one-time links, failures, and accounts of an OIDC provider."""
    for statement in (
        "ALTER TABLE accounts ADD COLUMN last_seen_ms INTEGER",
        "ALTER TABLE accounts ADD COLUMN identity TEXT",
        "CREATE UNIQUE INDEX accounts_by_identity ON accounts (identity)",
        "CREATE TABLE sessions (token_hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
        " account TEXT NOT NULL REFERENCES accounts (name), created_ms INTEGER NOT NULL,"
        " last_seen_ms INTEGER NOT NULL, idle_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
        " address TEXT NOT NULL, user_agent TEXT NOT NULL) STRICT",
        "CREATE INDEX sessions_by_account ON sessions (account)",
        "CREATE TABLE welcome_links (account TEXT PRIMARY KEY REFERENCES accounts (name), token_hash TEXT NOT NULL"
        " UNIQUE, expires_ms INTEGER NOT NULL) STRICT",
        "CREATE TABLE sign_in_failures (key TEXT PRIMARY KEY, failures INTEGER NOT NULL, last_ms INTEGER NOT NULL)"
        " STRICT",
    ):
        db.conn.execute(statement)


@account_migrations()
def add_preferences(db: Database) -> None:
    """Make room for what each account prefers."""
    db.conn.execute(
        "CREATE TABLE preferences (account TEXT PRIMARY KEY REFERENCES accounts (name), settings TEXT NOT NULL,"
        " changed_ms INTEGER NOT NULL) STRICT"
    )
