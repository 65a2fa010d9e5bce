"""The PyFlink programs."""
