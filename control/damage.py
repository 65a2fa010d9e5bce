"""What of the stored data of a home is damaged, for alerts and status."""

from bar.damage import store_problem
from control.home import Home
from feed.damage import damage_problem


def damage_of(home: Home) -> dict[str, str]:
    """Return by store a sentence on what of it is damaged and what to do; '' where nothing is."""
    return {"ticks": damage_problem(home.ticks_db), "bars": store_problem(home.bars_db)}
