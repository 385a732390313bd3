"""
The Temporal server: connecting, missions, batches, deployments, its list of workers.

It imports agents, ledger, store and contracts. What it cannot reach, it says in one
sentence that names what to do.
"""
