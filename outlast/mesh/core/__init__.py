"""
The pure half of the mesh: events, who owns a task, what a peer does next.

It does no I/O and reads no clock, so that a simulation can replay it.
"""
