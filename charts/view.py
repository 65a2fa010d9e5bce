"""What a chart shows and how it shows it: everything that a link to it has to say. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from bar.frames import Frame
from bar.reader import BarQuery
from charts.studies import Study, studies_text

KINDS: Mapping[str, str] = {"candles": "Candles", "ohlc": "OHLC", "line": "Line", "heikin-ashi": "Heikin-Ashi"}
SCALES: Mapping[str, str] = {"linear": "Linear", "log": "Logarithmic"}

# As many as the canvas holds at once (browser/candles/bars.js).
MOST_BARS_HELD = 20_000


@dataclass(frozen=True)
class ChartView:
    """One chart. from_ms, to_ms: the stretch to show first; without one the newest bars, as they come.

    zone: as a link names it (charts/zones.py). as_of_ms: show bars as they were known then.
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
        """Return the stretch to show, None where the newest bars are shown."""
        if self.from_ms is None or self.to_ms is None or self.from_ms >= self.to_ms:
            return None
        return self.from_ms, self.to_ms

    @property
    def bars_in_range(self) -> int:
        """Return how many bars the stretch has room for; none where the newest bars are shown."""
        return 0 if self.range_ms is None else -(-(self.range_ms[1] - self.range_ms[0]) // self.frame.length_ms)

    @property
    def query(self) -> BarQuery:
        """Return which bars it is about, at any time."""
        return BarQuery(self.instrument, self.frame, as_of_ms=self.as_of_ms, fill=self.fill)

    @property
    def bars_parameters(self) -> dict[str, str]:
        """Return what a request for more of its bars has to say, besides which."""
        return {
            "instrument": self.instrument,
            "frame": self.frame.text,
            **({"studies": studies_text(self.studies)} if self.studies else {}),
            **({"as_of": str(self.as_of_ms)} if self.as_of_ms is not None else {}),
            **({"fill": "1"} if self.fill else {}),
        }

    @property
    def edition(self) -> str:
        """Return what tells apart the bars and lines of one instrument and frame; those of two editions do not mix."""
        return f"{studies_text(self.studies)} {self.fill} {self.as_of_ms} {self.range_ms}"

    @property
    def link_parameters(self) -> dict[str, str]:
        """Return what the address of a chart of this has to say, whatever is usual there."""
        looks = {"kind": self.kind, "zone": self.zone, "scale": self.scale}
        return {**self.bars_parameters, "studies": studies_text(self.studies), "fill": str(int(self.fill)), **looks}

    @property
    def title(self) -> str:
        """Return what stands above a picture of it."""
        parts = [self.instrument, self.frame.text, KINDS[self.kind], *(study.label for study in self.studies)]
        return " · ".join(parts)
