"""
What a process needs of its machine: its home, streams, signals, event loop and store.

It imports settings, store and contracts.
"""
