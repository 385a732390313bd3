"""
One attempt at a task or item, from its input to its recorded result.

An attempt ends in a result or in one failure with a cause, and never leaves a half of
either. It imports agents, telemetry, ledger, store and contracts.
"""
