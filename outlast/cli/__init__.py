"""
The command lines: each verb parses, calls what does the work, and prints.

It may import everything below and is imported by the composition roots only. Every
error that leaves it is one sentence and an exit code.
"""
