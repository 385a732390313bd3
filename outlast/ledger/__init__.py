"""
The rows of work: missions, attempts, checkpoints, results, items, effects.

A write carries the fence of its attempt and is refused once a later attempt has begun.
It imports store, secrets and contracts.
"""
