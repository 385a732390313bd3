"""
The rows of work: missions, attempts, checkpoints, results, items, effects.

A write carries the fence of its attempt and is refused once a later attempt has begun.
It imports store, secrets and contracts. Where to look:

    who may write?                      fence.py, Fence.write
    where is a checkpoint written?      checkpoints.py, save_checkpoint
    what becomes of an effect?          effect_decision.py, decide_effect
    how is an item dead-lettered?       it failed: lease_ledger.py, record_item_failure;
                                        it killed: items.py, ItemRecords.dead_letter
    how does a mission end?             missions.py, MissionRecords.close
    what is deleted, and what stays?    retention.py, prune
"""
