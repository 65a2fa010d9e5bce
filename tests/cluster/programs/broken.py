"""Fails before it becomes a job, in the way its argument names."""

import sys

from pyflink.datastream import StreamExecutionEnvironment

how = sys.argv[1]
if how == "raise":
    api_key = "sup3r-s3cret"
    raise ValueError(f"the frames are wrong; api_key={api_key}")
if how == "exit":
    sys.exit(3)
if how == "half":
    env = StreamExecutionEnvironment.get_execution_environment()
    env.from_collection([1, 2, 3]).print()
    env.execute_async("first half")
    raise RuntimeError("the second half is missing")
