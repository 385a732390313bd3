"""
How a process reaches what it needs: settings, the Temporal server, the embedded stack,
telemetry, and the start of missions and batches.

It imports attempt, store and contracts. What it cannot reach, it says in one sentence
that names what to do.
"""
