"""
Texts: their fingerprints, how much of one travels, and how one is shown so that
nothing obeys it.
"""

import hashlib
import json
import re

from outlast.contracts.sizes import BOARD_TITLE_BYTES

SUMMARY_CHARS = 200
CAUSE_CHARS = 400
# Of what is longer no more is looked at: one line of it needs no five megabytes.
MAX_PARSED_CHARS = 16_384

# What a terminal, a log viewer or a page obeys instead of showing it: the control
# characters (with DEL and C1, where 0x9b alone begins an escape sequence), what turns
# the direction of writing, and halves of characters, which cannot be written at all.
_CONTROL_CHARS = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
)
_CONTROL_IN_TEXT = re.compile(f"[{_CONTROL_CHARS}]")
_CONTROL_IN_LINE = re.compile(f"[\\t\\n\\u2028\\u2029{_CONTROL_CHARS}]")

# What begins HTML in Markdown, and an image, which is fetched from wherever it lies.
_MARKUP_ESCAPES = {
    re.compile(r"&(?=#?\w+;)"): "&amp;",
    re.compile(r"<(?=[A-Za-z/!?])"): "&lt;",
    re.compile(r"!\["): r"!\\[",
}


# An item's JSON, in the one way that tells it from others; raises ValueError for inf
# and nan, which JSON has not.
canonical_json = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def sha256_hex(text: str) -> str:
    return sha256_hex_of_bytes(text.encode(errors="surrogatepass"))


def sha256_hex_of_bytes(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def one_line(text: str, limit: int) -> str:
    """
    Cut *text* to one line of at most *limit* characters that can be shown anywhere.

    It has at most two bytes for each of them, and three in JSON, whatever the script.
    """
    # Half a character, as in a file name that is no UTF-8, could not be sent.
    whole = text[: limit + MAX_PARSED_CHARS].encode(errors="replace").decode()
    line = visible_line(" ".join(whole.split()))
    if len(line) <= limit and len(line.encode()) <= 2 * limit:
        return line
    return truncate(line[: limit - 1], 2 * limit)


def truncate(text: str, limit: int, end: str = "…") -> str:
    """
    Cut *text* to at most *limit* bytes, the *end* that says so among them.
    """
    room = max(0, limit - len(end.encode()))
    return text.encode(errors="replace")[:room].decode(errors="ignore") + end


def title(text: str) -> str:
    """
    Sum *text* up for the Web UI: safe in Markdown, and no more than the server takes
    of a summary.
    """
    most = SUMMARY_CHARS
    while _json_bytes(told := markdown(one_line(text, most))) > BOARD_TITLE_BYTES:
        most = most * 3 // 4
    return told


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


def visible(text: str) -> str:
    """
    Write out what a terminal would obey, as in `\\x1b`; lines and tabs stay.
    """
    return _CONTROL_IN_TEXT.sub(_written_out, text)


def visible_line(text: str) -> str:
    """
    Write out what a terminal would obey, ends of lines and tabs too.
    """
    return _CONTROL_IN_LINE.sub(_written_out, text)


def markdown(text: str) -> str:
    """
    Make *text* safe in a Markdown page: HTML and images are shown as they are written.
    """
    text = visible(text)
    for pattern, shown in _MARKUP_ESCAPES.items():
        text = pattern.sub(shown, text)
    return text


def markdown_cell(text: str) -> str:
    return markdown(" ".join(text.split())).replace("|", "\\|")


def markdown_name(text: str) -> str:
    """
    Set a name, as of a file, in a Markdown page as code.
    """
    name = visible_line(text)
    if "`" in name or markdown(name) != name:
        return markdown(name).replace("`", "\\`")  # nothing is escaped within code
    return f"`{name}`"


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
