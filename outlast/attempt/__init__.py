"""
One attempt at a task or item, from its input to its recorded result.

Everything that a user's agent sees is here: `Context`, effects, checkpoints, breakers.
It imports store and contracts. An attempt ends in a result or in one failure with a
cause, and never leaves a half of either.
"""
