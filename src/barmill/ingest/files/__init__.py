"""Files of ticks: containers, encodings, formats, and the assignment of columns to fields."""
