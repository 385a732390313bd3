"""
The database: what was accepted, saved, done and asked for, in SQLite or PostgreSQL.

It imports contracts only. What it has said is written survives a SIGKILL of any process
and a crash of the machine; a write by an attempt that was superseded is refused.
"""
