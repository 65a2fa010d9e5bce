"""The system as a whole: its processes, their readiness, and its overall state."""
