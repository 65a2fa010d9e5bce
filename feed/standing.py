"""How the connections of all feeds stand: a small file in the home's run folder, written by ingest, read by anybody."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from control.home import Home
from feed.connection.state import ConnectionState

_FILE = "feeds.json"


@dataclass(frozen=True)
class Standings:
    """The newest state of each feed that runs, by name, and when that was; 0 if never."""

    at_ms: int = 0
    states: Mapping[str, ConnectionState] = field(default_factory=dict)


_JSON = TypeAdapter(Standings)


def write_standings(home: Home, standings: Standings) -> None:
    """Note how all stand, whole or not at all."""
    path = home.run / _FILE
    beside = path.with_suffix(".new")
    beside.write_bytes(_JSON.dump_json(standings))
    beside.replace(path)


def read_standings(home: Home) -> Standings:
    """Return how all stood last; of nothing where no ingest has run, or one of another version."""
    try:
        return _JSON.validate_json((home.run / _FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Standings()
