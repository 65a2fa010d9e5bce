"""Times as providers write them, made what ingest reads without knowing their format: nanoseconds, or ISO 8601."""

from feed.time_text import is_time_format, iso_text, read_time

__all__ = ["is_time_format", "time_of"]


def time_of(value: object, time_format: str = "auto", zone: str = "") -> object:
    """Return a time as nanoseconds since the epoch; what cannot be read comes back so that it will be a reject.

    time_format, zone: as `read_time` takes them. A time that would be ambiguous as a bare number comes as ISO 8601.
    """
    if value is None or isinstance(value, bool | list | dict):
        return value
    time_ns = read_time(value, time_format, zone)
    if time_ns is not None:
        return time_ns if read_time(time_ns) == time_ns else iso_text(time_ns)
    return value if read_time(value) is None else f"{value} is no {time_format}"
