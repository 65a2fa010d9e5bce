"""The feeds that people have made: what each is, who changed it, and how it stands."""
