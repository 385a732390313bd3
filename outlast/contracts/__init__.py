"""
The values that processes exchange, their ids, limits, clocks and errors.

Pure data and pure functions, without I/O, clock or randomness, since workflows use
them. They import nothing else of Outlast, and read the same in a replay next year.
"""
