"""Sign-in: passwords, OIDC, sessions, preferences, and the administration of accounts."""
