"""
The same trades, thinking with a model, and going ahead of those that need none.

What a model says is a proposal: its form is checked, its quotations are looked up, and
what it may do is the few tools that it was given. Nothing of pydantic-ai is imported
before the first thought.
"""
