"""What the demo market trades: made-up things of different tempo, volatility and price.

No name here belongs to a real company or currency; the prices mean nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One made-up instrument.

    price_step is the smallest price change in units of the last decimal; ticks_per_s and volatility (standard deviation
    of the return over one second, in parts per million) are long-run averages; typical_volume 0 means that the
    instrument has no volume, as foreign exchange quotes have none.
    """

    name: str
    description: str
    start_price: float
    price_decimals: int
    ticks_per_s: float
    volatility_ppm: float
    typical_volume: float
    volume_decimals: int = 0
    price_step: int = 1

    @property
    def has_volume(self) -> bool:
        """Tell whether ticks of this instrument carry a volume."""
        return self.typical_volume > 0


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument("OAKR/USD", "Oakroot Timber", 84.205, 3, 30, 120, 180),
    Instrument("GLFN/USD", "Glimmerfen Lanterns", 312.55, 2, 21, 190, 60),
    Instrument("ZEFK/USD", "Zeffirk Gliders", 41.372, 3, 15, 260, 300),
    Instrument("FLRN/GRTS", "Florins of Nowhere, in Groats", 1.08432, 5, 14, 22, 0),
    Instrument("FJLM/EUR", "Fjordlamp Energy", 127.40, 2, 11, 110, 90),
    Instrument("TMBW/USD", "Tumblewagon Freight", 9.845, 3, 8, 220, 1200),
    Instrument("MSBT/GBP", "Mossbottle Tea", 18.62, 2, 6, 130, 400),
    Instrument("QUIB/USD", "Quibble and Quill Paper", 55.10, 2, 4, 150, 150),
    Instrument("PEBL/USD", "Pebbletoken", 0.004213, 6, 3, 480, 25_000, 1),
    Instrument("DCTS/FLRN", "Ducats of Elsewhere, in Florins", 142.371, 3, 2.5, 30, 0),
    Instrument("WMPH/USD", "Wumphrey Balloons", 23.75, 2, 1.8, 320, 220, 0, 5),
    Instrument("DRZC/EUR", "Drizzlecap Umbrellas", 66.08, 2, 1.2, 100, 130),
    Instrument("BRBP/USD", "Brambleport Ferries", 31.90, 2, 0.8, 90, 260),
    Instrument("KNGW/USD", "Knurlgate Works", 208.4, 1, 0.5, 140, 40, 0, 1),
    Instrument("PNCK/USD", "Pancrake Ovens", 14.27, 2, 0.3, 170, 500),
    Instrument("SNKW/USD", "Snorkwell Divers", 3.482, 3, 0.2, 290, 2500),
    Instrument("VVTD/EUR", "Velvetoad Fabrics", 47.65, 2, 0.1, 80, 170, 0, 5),
    Instrument("HXMN/USD", "Hexmoon Mining", 1187.50, 2, 0.07, 210, 12, 3, 25),
    Instrument("CKLF/GBP", "Crickleford Cider", 7.316, 3, 0.033, 60, 900),
    Instrument("LMPQ/USD", "Lumpkin Quarries", 92.00, 2, 1 / 60, 70, 75),
)
"""All instruments, the busiest first. Their total is about 120 ticks a second."""
