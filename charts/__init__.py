"""Figures: what is drawn, worked out from bars by pure functions; and the browser code that draws it."""
