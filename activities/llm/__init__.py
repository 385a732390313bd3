"""
The same trades with a model, which go ahead of those that need none.

What a model says is a proposal: its form is checked, its quotations are looked up, and
it can do no more than the few tools that it was given. Nothing of pydantic-ai is
imported before the first question to a model.
"""
