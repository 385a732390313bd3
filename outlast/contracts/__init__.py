"""
What everybody agrees on: missions, tasks, reports, policies, names, errors.

Pure data and pure functions, without I/O, clock or chance, since workflows use them. It
imports nothing else of ours. What is here reads the same in a replay, next year too.
"""
