"""
Texts: their fingerprints, and how much of one travels.
"""

import hashlib

SUMMARY_CHARS = 200
CAUSE_CHARS = 400


def digest(text: str) -> str:
    """
    Fingerprint *text*.
    """
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def shorten(text: str, most: int) -> str:
    """
    Cut *text* to one line of at most *most* characters.
    """
    # Half a character, as in a file name that is no UTF-8, could not be sent.
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= most else line[: most - 1] + "…"
