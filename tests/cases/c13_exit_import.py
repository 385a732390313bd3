"""A script that was never meant to be imported: no `if __name__ == "__main__"`."""

import sys

from outlast import Context, agent


@agent("c13-hello")
async def hello(given: dict, ctx: Context) -> dict:
    return {"summary": "hello"}


def main() -> int:
    return 0


sys.exit(main())
