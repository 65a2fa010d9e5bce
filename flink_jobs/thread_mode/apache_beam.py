"""A module that hides Apache Beam from the Python inside the TaskManager, where its folder precedes the packages.

PyFlink tries to import Beam and continues without it. Jobs run in thread mode, which does not use Beam, and importing
Beam takes a second of CPU time and 80 MB at each start of a TaskManager and of a replay.
"""

raise ImportError("Beam is not needed: jobs run in thread mode.")
