"""
The client's composition root: `outlast`, `python -m outlast` and `starter.py`.
"""

from outlast.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
