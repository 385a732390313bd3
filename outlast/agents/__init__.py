"""
What a user's agent sees: `@agent`, `Context`, effects, secrets of its services.

It registers agents and reads their inputs. Whatever it writes goes through the ledger,
behind the fence of the attempt. It imports execution, telemetry, ledger, store and
contracts.
"""
