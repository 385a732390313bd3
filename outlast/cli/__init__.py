"""
The command lines: each command parses, calls what does the work, and prints; what it
opens, it opens once, in its session, and closes.

It may import everything below and is imported by the composition roots only. Every
error that leaves it is one sentence and an exit code.
"""
