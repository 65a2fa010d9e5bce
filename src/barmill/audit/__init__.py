"""Permissions and the audit log: roles, accounts, and actions, which are authorized and audited changes."""
