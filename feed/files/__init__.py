"""Files of ticks: containers, encodings, formats, and which of their columns are which fields."""
