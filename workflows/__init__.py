"""
What decides: deterministic, no I/O, no clock of its own, no randomness.

Who decides after a SIGKILL? `failure.classify_failure` reads how the attempt ended, and
`redispatch` counts it: `after_failure` for a task, `after_crash` for a lease of items.

    supervisor           a mission: what others may ask of it
    mission_loop         the loop over its plan
    running_tasks        its tasks in flight, and the redo of rejected ones
    task_execution       one task, over its routes
    task_round           its inputs, approvals and outcome
    task_dispatch        one task on one route, over all its attempts
    pool                 a batch: what others may ask of it
    batch_loop           the leases of a batch
    lease_dispatch       one lease, over all its attempts
    child_tasks          tasks that child workflows do: missions and fan-outs
    children             child workflows, which outlive a run
    renewal              a full history continues in a new run
    bookkeeping          what is written to the ledger and asked of it
"""
