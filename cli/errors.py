"""What the commands say when they cannot do what was asked."""


class UserError(Exception):
    """One sentence for the user: what is wrong and what to do next."""
