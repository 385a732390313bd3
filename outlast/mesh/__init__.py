"""
Peers on several hosts that finish each other's missions, without a shared server.

The core (replicated log, ownership, events) does no I/O and can be replayed; the node
around it sends messages, stores the log and starts runs. It imports temporal,
telemetry, ledger, store and contracts.
"""
