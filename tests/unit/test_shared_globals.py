"""
Which globals of a module its functions write.
"""

import pytest

from outlast.agents.shared_globals import WrittenGlobal, written_globals

MADE = """
ITEMS: list[int] = []
SEEN = collections.defaultdict(list)
STATE = Any()
COUNT: int = 0
"""


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("global COUNT\n    COUNT += 1", "COUNT"),
        ("global COUNT\n    for COUNT in x: pass", "COUNT"),
        ("global NEW\n    NEW = x", "NEW"),
        ("ITEMS.append(x)", "ITEMS"),
        ("SEEN[x] = 1", "SEEN"),
        ("SEEN[x][1] += 1", "SEEN"),
        ("del SEEN[x]", "SEEN"),
        ("SEEN.setdefault(x, []).append(1)", "SEEN"),
        ("STATE.count += 1", "STATE"),
        ("return [ITEMS.pop() for _ in x]", "ITEMS"),
        ("def inner():\n        SEEN.clear()", "SEEN"),
        ("return lambda: SEEN.update(x)", "SEEN"),
    ],
)
def test_what_a_function_writes_is_found(body: str, name: str) -> None:
    """
    Rebound or changed in place, also from a function within.
    """
    found = written_globals(f"{MADE}async def play(x, ctx):\n    {body}\n")
    assert [each.name for each in found] == [name]
    assert found[0].line > MADE.count("\n")


@pytest.mark.parametrize(
    "body",
    [
        "return ITEMS[0], SEEN.get(x), STATE.count",
        "ITEMS = []\n    ITEMS.append(x)",
        "STATE.add(1)",
        "x.append(1)\n    x[0] = 1",
        "COUNT = 1\n    return COUNT",
        "for SEEN in x: SEEN[1] = 2",
    ],
)
def test_what_is_read_or_local_is_not(body: str) -> None:
    """
    A name of the function's own hides the module's.
    """
    assert written_globals(f"{MADE}def play(x, ctx):\n    {body}\n") == []


def test_what_the_module_itself_does_is_not() -> None:
    """
    At import nothing runs beside it.
    """
    source = f"{MADE}ITEMS.append(1)\nSEEN['x'] = 2\nfrom os import environ\n"
    assert written_globals(source) == []


def test_the_first_line_is_told_once_a_name() -> None:
    """
    One line is enough to find it.
    """
    source = (
        "A = []\ndef f(x):\n    A.append(1)\n    A.append(2)\ndef g(x):\n    A.pop()\n"
    )
    assert written_globals(source) == [WrittenGlobal("A", 3)]


def test_methods_count_too() -> None:
    """
    An agent may be an object.
    """
    source = (
        "A = {}\nclass Played:\n    def __call__(self, given, ctx):\n        A[1] = 2\n"
    )
    assert written_globals(source) == [WrittenGlobal("A", 4)]
