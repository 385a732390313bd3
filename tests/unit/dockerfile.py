"""
The Dockerfile and .dockerignore as docker reads them, as far as we use them.
"""

import re
from collections.abc import Iterator


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """
    Read a Dockerfile: each instruction's name and the rest of it, in one line.
    """
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(kept).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            yield name.upper(), rest.strip()


def let_through(path: str, patterns: list[str]) -> bool:
    """
    Say whether .dockerignore's *patterns* leave the file *path* in the context: the
    last one that fits it, or a folder above it, decides.
    """
    parts = path.split("/")
    named = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    through = True
    for pattern in patterns:
        fits = _expression(pattern.lstrip("!").strip("/")).fullmatch
        if any(fits(each) for each in named):
            through = pattern.startswith("!")
    return through


def _expression(pattern: str) -> re.Pattern[str]:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(known.get(each, re.escape(each)) for each in pieces))
