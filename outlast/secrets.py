"""
Secrets of this worker, masked in every text that leaves it: causes, tracebacks, status
messages, spans and the log, also as URLs, JSON, `repr` and base64 write them.

What an agent returns, saves, asks for or sends is data, and is not touched: masked, it
would not be what the next attempt or a person's approval is about. A summary, a status
line or a span made of data is text, and is masked.
"""

import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import lru_cache

from outlast.contracts.errors import MissingSecretError
from outlast.contracts.text import MAX_PARSED_CHARS, one_line

PREFIX = "OUTLAST_SECRET_"
MASK = "[secret]"
# A shorter value is a flag or a number: masking it would tear other words apart.
MIN_SECRET_CHARS = 4
# A line of a longer secret, as of a key in PEM, is told from other text.
MIN_SECRET_LINE_CHARS = 8
# Of a shorter one too little is left in base64 to tell it from other text.
LEAST_BASE64_BYTES = 6
# A character of a secret becomes so many in a URL, at most.
MAX_ENCODINGS = 9

# Read by agents of this process: masked on when they are no more in its environment.
_handed_out: set[str] = set()

# Backslashes before a character, as of JSON in JSON in `repr`. Bounded as all repeats
# are: else a text that is nearly a secret would be tried in every way there is.
MAX_QUOTES = 8
_QUOTE = rf"\\{{1,{MAX_QUOTES}}}"

_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
# Runs of what a pattern repeats are one of its parts: else it would try each split.
_PARTS = re.compile(r"\\+|\s+|.")


def hand_out(name: str) -> str:
    """
    Read the secret *name* for an agent.

    :raises MissingSecretError: when this worker was not given it.
    """
    variable = f"{PREFIX}{name.upper()}"
    value = os.environ.get(variable)
    if value is None:
        raise MissingSecretError(
            f"this worker has no {variable}: set it where workers are started"
        )
    _handed_out.add(value)
    return value


def are_known() -> bool:
    """
    True if there is anything to mask.
    """
    return _pattern(_values(os.environ)) is not None


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """
    Replace the values of secrets in *text*, in whatever way they are written.
    """
    pattern = _pattern(_values(environment))
    return text if pattern is None else pattern.sub(MASK, text)


def masked_head(text: str) -> str:
    """
    Mask the first MAX_PARSED_CHARS of *text*; no piece of a secret is left where it is
    cut.
    """
    if len(text) <= MAX_PARSED_CHARS:
        return mask(text)
    room = MAX_ENCODINGS * max(map(len, _values(os.environ)), default=0)
    head = mask(text[: MAX_PARSED_CHARS + room])
    return head[: len(head) - room]


def masked(text: str, most: int) -> str:
    """
    Cut *text* to one line of at most *most* characters without a secret in it.
    """
    return one_line(masked_head(text), most)


def _values(environment: Mapping[str, str]) -> frozenset[str]:
    given = [environment[name] for name in environment if name.startswith(PREFIX)]
    return frozenset(_handed_out.union(given))


# Made once: it takes some 0.02 s for a key in PEM, and workers inherit it.
@lru_cache(maxsize=8)
def _pattern(values: frozenset[str]) -> re.Pattern[str] | None:
    """
    Make what finds each of *values*, as it is and as it is written elsewhere, and each
    of its lines; None where there is nothing to find.
    """
    whole = [each.strip() for each in values if len(each.strip()) >= MIN_SECRET_CHARS]
    hidden = {*whole, *(line for each in whole for line in _lines_of(each))}
    first = sorted(hidden, key=lambda each: (-len(each), each))
    encoded = [form for each in sorted(whole) for form in _encoded(each)]
    forms = [*map(_written, first), *encoded]
    return re.compile("|".join(forms)) if forms else None


def _lines_of(secret: str) -> list[str]:
    lines = [line.strip() for line in secret.splitlines()]
    return [
        line
        for line in lines
        if len(line) >= MIN_SECRET_LINE_CHARS and not line.startswith("-----")
    ]


def _written(secret: str) -> str:
    return "".join(map(_part, _PARTS.findall(secret)))


def _part(part: str) -> str:
    if part[0] == "\\":
        most = MAX_QUOTES * len(part)
        return rf"(?:\\{{{len(part)},{most}}}|{_escaped(part[0])}{{{len(part)}}})"
    if part.isspace():
        return rf"(?:\s|\+|{_escaped(' ')}|{_escaped(chr(10))}|{_QUOTE}[nrt])+"
    if part.isascii() and part.isalnum():
        return part
    return rf"(?:\\{{0,{MAX_QUOTES}}}{re.escape(part)}|{_escaped(part)})"


def _escaped(char: str) -> str:
    """
    Make what finds one character as URLs, JSON, `repr` and HTML write it.
    """
    utf8 = char.encode(errors="surrogatepass")
    utf16 = char.encode("utf-16-be", errors="surrogatepass").hex()
    units = [utf16[at : at + 4] for at in range(0, len(utf16), 4)]
    forms = [
        "".join(rf"%(?:25){{0,3}}{byte:02x}" for byte in utf8),
        "".join(rf"{_QUOTE}u{unit}" for unit in units),
        rf"{_QUOTE}U{ord(char):08x}",
        rf"{_QUOTE}x{ord(char):02x}",
        rf"&\#(?:{ord(char)}|x0{{0,4}}{ord(char):x});",
    ]
    if char in _ENTITIES:
        forms.append(f"&{_ENTITIES[char]};")
    return f"(?i:{'|'.join(forms)})"


def _encoded(secret: str) -> Iterator[str]:
    """
    Make what finds *secret* in base64 wherever it begins in what is encoded, as in a
    header `Basic`, and in hexadecimal.
    """
    raw = secret.encode(errors="surrogatepass")
    if len(raw) < LEAST_BASE64_BYTES:
        return
    yield f"(?i:{raw.hex()})"
    for before in range(3):
        text = b64encode(bytes(before) + raw).decode()
        # Only characters whose six bits are all ours: those beside them may be any.
        core = text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        either = core.replace("+", "(?:[+-]|%2[bB])").replace("/", "(?:[/_]|%2[fF])")
        yield f"[A-Za-z0-9+/_-]?{either}[A-Za-z0-9+/_-]?"
