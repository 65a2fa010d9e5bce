"""The content and the appearance of a chart, as stored in a link to it; without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from barmill.charts.studies import Study, studies_text
from barmill.model.frames import Frame
from barmill.storage.reader import BarQuery

KINDS: Mapping[str, str] = {"candles": "Candles", "ohlc": "OHLC", "line": "Line", "heikin-ashi": "Heikin-Ashi"}
SCALES: Mapping[str, str] = {"linear": "Linear", "log": "Logarithmic"}

# The same limit as on the canvas (browser/candles/bars.js).
MAX_BARS_HELD = 20_000


@dataclass(frozen=True)
class ChartView:
    """One chart.

    from_ms, to_ms: the range to show first; without it, the newest bars are shown and followed. zone: the
    name of a zone in a link, see `zone_of`. as_of_ms: show the bars as they were known at this time.
    """

    instrument: str
    frame: Frame
    kind: str = "candles"
    studies: tuple[Study, ...] = ()
    zone: str = "UTC"
    scale: str = "linear"
    fill: bool = False
    from_ms: int | None = None
    to_ms: int | None = None
    as_of_ms: int | None = None

    @property
    def range_ms(self) -> tuple[int, int] | None:
        """Return the range to show, in epoch ms, or None if the newest bars are shown."""
        if self.from_ms is None or self.to_ms is None or self.from_ms >= self.to_ms:
            return None
        return self.from_ms, self.to_ms

    @property
    def bars_in_range(self) -> int:
        """Return the maximum number of bars in the range, or 0 if the newest bars are shown."""
        return 0 if self.range_ms is None else -(-(self.range_ms[1] - self.range_ms[0]) // self.frame.length_ms)

    @property
    def query(self) -> BarQuery:
        """Return the query of its bars, without a time range."""
        return BarQuery(self.instrument, self.frame, as_of_ms=self.as_of_ms, fill=self.fill)

    @property
    def bars_parameters(self) -> dict[str, str]:
        """Return the parameters of a request for further bars, without the time range."""
        return {
            "instrument": self.instrument,
            "frame": self.frame.text,
            **({"studies": studies_text(self.studies)} if self.studies else {}),
            **({"as_of": str(self.as_of_ms)} if self.as_of_ms is not None else {}),
            **({"fill": "1"} if self.fill else {}),
        }

    @property
    def edition(self) -> str:
        """Return a key of the bars and lines of one instrument and frame; data of different keys must not be mixed."""
        return f"{studies_text(self.studies)} {self.fill} {self.as_of_ms} {self.range_ms}"

    @property
    def link_parameters(self) -> dict[str, str]:
        """Return the parameters of a link to this chart, without the time range; default values are included."""
        appearance = {"kind": self.kind, "zone": self.zone, "scale": self.scale}
        return {
            **self.bars_parameters,
            "studies": studies_text(self.studies),
            "fill": str(int(self.fill)),
            **appearance,
        }

    @property
    def title(self) -> str:
        """Return the title of an image of the chart."""
        parts = [self.instrument, self.frame.text, KINDS[self.kind], *(study.label for study in self.studies)]
        return " · ".join(parts)


_COMPARED_COLUMNS = ("open", "high", "low", "close", "volume", "ticks")


def count_revised(shown: pl.DataFrame, current: pl.DataFrame) -> int:
    """Return how many of the shown bars differ from the current ones; both BAR_SCHEMA, of one instrument and frame."""
    bars = shown.join(current, on="start_ms", suffix="_now")
    unchanged = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_now")) for name in _COMPARED_COLUMNS)
    return bars.filter(~unchanged).height


# Listed before the IANA names, all of which are also allowed.
SPECIAL_ZONES: Sequence[str] = ("UTC", "local", "exchange")


@cache
def zone_names() -> tuple[str, ...]:
    """Return every zone that a link may name."""
    return (*SPECIAL_ZONES, *sorted(available_timezones() - set(SPECIAL_ZONES)))


def zone_of(name: str, browser_zone: str | None, exchange_zone: str) -> str:
    """Return the IANA name of a zone by its name in a link; UTC if it is unknown."""
    zone = {"local": browser_zone, "exchange": exchange_zone}.get(name, name)
    return zone if zone in zone_names() and zone not in SPECIAL_ZONES else "UTC"


def clock_ms(times_ms: pl.Series, zone: str) -> pl.Series:
    """Return the local time of a zone at these times, as the milliseconds at which a UTC clock shows that time.

    In the hour that is repeated in autumn, the values go back once.
    """
    times = pl.from_epoch(times_ms, time_unit="ms").dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone(zone).dt.replace_time_zone(None, ambiguous="earliest").dt.epoch("ms")


def local_time(time_ms: int, zone: str) -> datetime:
    """Return a time as the local time of a zone, for input fields."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def time_ms_of(local: datetime, zone: str) -> int:
    """Return the epoch time in ms of a local time of a zone; of two possible times, the earlier one."""
    return round(local.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1_000)
