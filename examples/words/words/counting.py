"""
What the agents know how to do.
"""


def count_words(text: str) -> int:
    return len(text.split())
