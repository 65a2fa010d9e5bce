"""Charts: figures and data that pure functions compute from bars and measurements, and the code that draws them."""
