"""
The processes of one host: a parent, its workers, and the watch over them.

It imports temporal, telemetry, execution, agents, ledger, store and contracts, and the
Temporal workers that it hosts. A worker that dies, freezes or grows too large is
noticed, reported and replaced, and its in-flight attempts are redispatched.
"""
