"""
The fleet's composition root: `outlast-worker`, `python -m outlast.worker` and
`worker.py`.
"""

from outlast.cli.worker_command import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
