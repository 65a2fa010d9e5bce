"""Parts of the pages on accounts, keys and the audit log."""
