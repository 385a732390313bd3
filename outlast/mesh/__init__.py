"""
Peers on several hosts that finish each other's missions, without a shared server.

The core (merge, ownership, events) does no I/O and can be replayed; the shell around
it gossips, keeps the log and starts runs. It imports runtime, attempt, store and
contracts.
"""
