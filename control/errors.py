"""How the control plane says no.

ControlError                  one sentence that says what to do next; nothing was changed
├── NotAllowedError           the actor's role does not reach that far
├── AuditError                the audit trail cannot be written, so nothing is done
└── (each room has its own)   KeyStoreError, JobError, AccountError, ...
"""


class ControlError(Exception):
    """Something cannot be done; the message is one sentence for the user, and nothing was changed."""


class NotAllowedError(ControlError):
    """The actor's role does not allow this; ask an admin."""


class AuditError(ControlError):
    """The audit trail cannot be written, so nothing was done."""
