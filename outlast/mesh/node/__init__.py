"""
The half of the mesh that acts: membership, the event store, runs, the sidecar.

It applies the effects that the core asks for.
"""
