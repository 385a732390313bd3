"""
The crew's library: documents to passages, passages to what answers a question.

It reads below one folder, keeps what it has read in tables of its own in the engine's
store, and imports nothing of the agents that ask it.
"""
