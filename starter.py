"""
Start a mission and follow it; ask, look, pause, cancel, explain: `outlast` in a
checkout that is not installed.
"""

from outlast.__main__ import main

if __name__ == "__main__":
    main()
