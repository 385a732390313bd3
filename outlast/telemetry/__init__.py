"""
Spans, counters, and what is sent to a collector.

Nothing of OpenTelemetry is imported before it is asked for. It imports ledger, store,
secrets and contracts.
"""
