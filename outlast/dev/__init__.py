"""
The embedded server and the stack around it, for one machine.

It imports process, temporal, store and contracts.
"""
