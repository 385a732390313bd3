"""
Keep a fleet of worker processes alive, until SIGTERM or Ctrl-C: `outlast-worker` in a
checkout that is not installed.
"""

from outlast.worker import main

if __name__ == "__main__":
    main()
