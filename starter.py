"""
Start a mission and follow it; ask, look, pause, cancel, explain.
"""

from outlast.cli.app import main

if __name__ == "__main__":
    main()
