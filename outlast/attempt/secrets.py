"""
Secrets of this worker, masked wherever text leaves it: in causes, tracebacks, status
messages and the log. What an agent returns, saves or sends is its data, and is not
touched.
"""

import os
import re
from collections.abc import Mapping

from outlast.contracts.texts import READ_CHARS, shorten

PREFIX = "OUTLAST_SECRET_"
MASK = "[secret]"
# A shorter value is a flag or a number: masking it would tear other words apart.
LEAST_CHARS = 4
# A line of a longer secret, as of a key in PEM, is told from other text.
LEAST_LINE_CHARS = 16


def is_secret(variable: str) -> bool:
    """
    Say whether a *variable* of the environment has a secret of agents.
    """
    return variable.startswith(PREFIX)


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """
    Replace the values of secrets in *text*, also as `repr` writes them.
    """
    hidden = _hidden(environment)
    if not hidden:
        return text
    return re.sub("|".join(map(re.escape, hidden)), MASK, text)


def masked(text: str, most: int) -> str:
    """
    Cut *text* to one line of at most *most* characters without a secret in it.
    """
    return shorten(mask(text[:READ_CHARS]), most)


def _hidden(environment: Mapping[str, str]) -> list[str]:
    """
    List what must not be read anywhere, the longest first.
    """
    found: set[str] = set()
    for name in filter(is_secret, environment):
        value = environment[name].strip()
        if len(value) >= LEAST_CHARS:
            found |= {value, repr(value)[1:-1]}
        lines = [line.strip() for line in value.splitlines()[1:-1]]
        found |= {line for line in lines if len(line) >= LEAST_LINE_CHARS}
    return sorted(found, key=len, reverse=True)
