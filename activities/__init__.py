"""
The crew that is shipped: agents, one trade a file, their library of documents, and the
verbs `ask` and `ingest`. It comes to the engine by entry points, as a user's own does.
"""
