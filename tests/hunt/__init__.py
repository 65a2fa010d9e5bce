"""A hunt for wrong or lost rows: generated inputs of eight kinds, against readers that use no code of Barmill.

`python -m tests.hunt --rows 1000000` tries so many rows and prints what came of them.
"""
