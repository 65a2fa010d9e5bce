"""The PyFlink programs, which run on the Flink cluster."""
