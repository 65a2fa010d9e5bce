"""The eight kinds of inputs."""

from tests.hunt.answers import accounts
from tests.hunt.completeness import completeness
from tests.hunt.files import columns, containers, numbers
from tests.hunt.identity import identity
from tests.hunt.order import order
from tests.hunt.result import Kind
from tests.hunt.times import times

KINDS: dict[str, Kind] = {
    "order": order,
    "identity": identity,
    "account": accounts,
    "completeness": completeness,
    "time": times,
    "columns": columns,
    "numbers": numbers,
    "containers": containers,
}
