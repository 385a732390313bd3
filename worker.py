"""
Keep a fleet of worker processes alive, until SIGTERM or Ctrl-C.
"""

from outlast.cli.fleet import main

if __name__ == "__main__":
    main()
