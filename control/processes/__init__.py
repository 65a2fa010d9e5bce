"""The supervised processes of a home, and their health."""
