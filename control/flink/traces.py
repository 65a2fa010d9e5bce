"""What stack traces say, in one line."""

_END_OF_TRACE = "End of exception on server side>"


def cause_of(traceback: str) -> str:
    """Return the line that says what went wrong, of a traceback of Java, Python or one inside the other."""
    lines = [line for line in traceback.splitlines() if line and not line[0].isspace() and line != _END_OF_TRACE]
    deepest = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (deepest or lines or [""])[-1]


def reason(trace: str | None) -> str:
    """Return what went wrong as a sentence."""
    cause = cause_of(trace or "").strip().rstrip(".")
    return f"{cause}." if cause else "No cause is known."
