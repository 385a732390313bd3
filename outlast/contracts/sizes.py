"""
How large things may be, in bytes as they are encoded.

What is larger than its first bound lies in the store and travels as a reference; what
is larger than LARGEST_BYTES is refused where it is made, once, in one sentence.
"""

KIB, MIB = 1024, 1024 * 1024

# One payload of Temporal's: a larger one lies in the store. The server refuses one of
# 2 MB, and a message of 4 MB, which holds up to 100 commands of a workflow.
PAYLOAD_BYTES = 32 * KIB
# Progress in a heartbeat. Temporal terminates a workflow whose pending heartbeats grow
# past its state limit.
CHECKPOINT_BYTES = 4 * KIB
# A task's input within its plan, which a workflow carries from run to run: 5,000 of
# them fit into one.
INPUT_BYTES = KIB
# An item, or its result, in the row that is read with a thousand others.
ITEM_BYTES = 32 * KIB

# A result, an input, an item or progress, unless OUTLAST_LARGEST_MB says otherwise.
MAX_RESULT_BYTES = 64 * MIB
# What one task is given of others, in multiples of that.
NEEDS_FACTOR = 4
# A mission's tasks as a workflow carries them: ids, needs and small inputs. Of small
# numbers it is read in 0.7 s here, and a workflow may take 2 s for a turn.
PLAN_BYTES = 8 * MIB

# The answer to the query `mission_progress`, which is never kept: the server takes 2
# MB.
PROGRESS_BYTES = MIB
# The details of a mission in the Web UI, which shows no references.
BOARD_BYTES = 16 * KIB
# The summary of a workflow, with what the server counts beside the text: it takes 400.
BOARD_TITLE_BYTES = 340

# A mission in the logs of the mesh, each of which has all of it.
MESH_MISSION_BYTES = MIB

# Why one task ended as it did.
REASONS_BYTES = 4 * KIB
# What a report says of all that a mission lacks; each task has its own reasons besides.
MAX_REASONS = 1_000
# An error on its way to Temporal: its words, its traceback, and the errors below it.
MESSAGE_BYTES = 2 * KIB
FAILURE_TRACE_BYTES = 4 * KIB
MAX_CAUSES = 8
