"""
Which functions may play an agent, and what the others are told.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from guarded_agents import guarded, lost
from guest_types import Errand
from pydantic import BaseModel
from unit_fakes import told_in_one_sentence

from outlast import Context, Policy, agent
from outlast.agents import registry
from outlast.agents.agent_check import check_agents
from outlast.agents.agent_function import is_async
from outlast.contracts.errors import BadInputError


@pytest.fixture(autouse=True)
def _own_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Decorate as tracing and retry libraries do.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def with_client(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Hand in an argument, and say so by parameters of its own.
    """

    @functools.wraps(function)
    async def wrapper(given: Any, ctx: Any) -> Any:
        return await function(given, ctx, "client")

    return wrapper


async def simple(given: Errand, ctx: Context) -> str:
    return given.what


def plain(given: Errand, ctx: Context) -> str:
    return given.what


async def with_model(model: str, given: Errand, ctx: Context) -> str:
    return model


async def using_client(given: Errand, ctx: Context, client: str) -> str:
    return client


async def with_defaults(
    given: Errand, ctx: Context, most: int = 3, *, loud: bool = False
) -> str:
    return given.what


class Crew:
    async def __call__(self, given: Errand, ctx: Context) -> str:
        return given.what

    async def method(self, given: Errand, ctx: Context) -> str:
        return given.what

    @traced
    async def traced_method(self, given: Errand, ctx: Context) -> str:
        return given.what

    @classmethod
    async def of_class(cls, given: Errand, ctx: Context) -> str:
        return given.what

    @staticmethod
    async def static(given: Errand, ctx: Context) -> str:
        return given.what

    def plainly(self, given: Errand, ctx: Context) -> str:
        return given.what


ASYNC: dict[str, Any] = {
    "function": simple,
    "wrapped": traced(simple),
    "wrapped twice": traced(traced(simple)),
    "wrapped by parameters": with_client(using_client),
    "partial": functools.partial(with_model, "small"),
    "partial of wrapped": functools.partial(traced(with_model), "small"),
    "wrapped partial": traced(functools.partial(with_model, "small")),
    "object": Crew(),
    "method": Crew().method,
    "wrapped method": Crew().traced_method,
    "classmethod": Crew.of_class,
    "staticmethod": Crew.static,
    "staticmethod itself": staticmethod(simple),
    "defaults": with_defaults,
    "guarded": guarded,
    "cached": functools.lru_cache(simple),
}


@pytest.mark.parametrize("name", ASYNC)
def test_async_agents_in_any_dress_are_taken(name: str) -> None:
    """
    They are async, and the type of their input is known.
    """
    made = agent("dressed")(ASYNC[name])
    check_agents([made])
    assert made.is_async
    assert made.read({"what": "x"}, {}) == Errand(what="x")


@pytest.mark.parametrize("play", [plain, traced(plain), Crew().plainly])
def test_plain_agents_stay_plain(play: Any) -> None:
    """
    They run in a thread.
    """
    made = agent("plain")(play)
    check_agents([made])
    assert not made.is_async
    assert made.read({"what": "x"}, {}) == Errand(what="x")


def yields(given: dict[str, Any], ctx: Context) -> Iterator[int]:
    yield 1


async def yields_async(given: dict[str, Any], ctx: Context) -> AsyncIterator[int]:
    yield 1


def collected(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(given: Any, ctx: Any) -> Any:
        return [each async for each in function(given, ctx)]

    return wrapper


def anything(*args: Any, **kwargs: Any) -> Any:
    return simple(*args, **kwargs)


def by_name(*, given: Any, ctx: Any) -> Any: ...
def one(given: Any) -> Any: ...
def three(given: Any, ctx: Any, more: Any) -> Any: ...
def needs_option(given: Any, ctx: Any, *, model: str) -> Any: ...
def nothing() -> Any: ...


UNFIT: dict[str, tuple[Any, str]] = {
    "generator": (yields, "it yields"),
    "async generator": (yields_async, "it yields"),
    "wrapped generator": (traced(yields), "it yields"),
    "wrapped async generator": (traced(yields_async), "it yields"),
    "partial generator": (functools.partial(yields), "it yields"),
    "a class": (Crew, "declare an object of it"),
    "an unbound method": (Crew.method, "it takes self"),
    "a classmethod itself": (classmethod(simple), "behind the class"),
    "anything": (anything, r"it takes \(\*args.*functools.wraps"),
    "by name": (by_name, r"it takes \(\*, given, ctx\)"),
    "one": (one, r"it takes \(given\): an agent is called with two"),
    "three": (three, r"it takes \(given, ctx, more\)"),
    "wrapped three": (traced(three), r"it takes \(given, ctx, more\)"),
    "an option without default": (needs_option, r"\(given, ctx, \*, model\)"),
    "nothing": (nothing, r"it takes \(\)"),
    "a partial too many": (functools.partial(simple, 1), "two arguments"),
    "no function": ("simple", "str is no function"),
    "a coroutine": (None, "NoneType is no function"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_play_is_refused_with_its_line(name: str) -> None:
    """
    One sentence when the module is imported: file, line, and what to do.
    """
    play, told = UNFIT[name]
    with pytest.raises(BadInputError, match=told) as refused:
        agent("unfit")(play)
    text = told_in_one_sentence(refused.value)
    assert text.startswith(f"tests/unit/test_agent_function.py:{_line_above()}")
    assert "agent 'unfit'" in text
    assert "unfit" not in registry.registered_agents()


def _line_above() -> int:
    """
    Find the line of `agent("unfit")(play)` in the test that calls.
    """
    lines, first = inspect.getsourcelines(
        test_what_cannot_play_is_refused_with_its_line
    )
    at = next(n for n, line in enumerate(lines) if 'agent("unfit")(play)' in line)
    return first + at


def test_an_async_wrapper_may_collect_what_a_generator_yields() -> None:
    """
    What is called first decides.
    """
    assert is_async(collected(yields_async))
    agent("collected")(collected(yields_async))


def swapped(ctx: Context, given: dict[str, Any]) -> Any: ...
def no_context(given: dict[str, Any], ctx: dict[str, Any]) -> Any: ...
def text(given: str, ctx: Context) -> Any: ...
def listed(given: list[Errand], ctx: Context) -> Any: ...
def object_only(given: "Callable[[], int]", ctx: Context) -> Any: ...


class Open:
    """
    A type that nobody can read.
    """


class Half(BaseModel):
    what: "NowhereAtAll"  # type: ignore[name-defined]  # noqa: F821


def unreadable(given: Open, ctx: Context) -> Any: ...
def half(given: Half, ctx: Context) -> Any: ...


@pytest.mark.parametrize(
    ("play", "told"),
    [
        (swapped, "swap them"),
        (no_context, "second argument is the Context"),
        (text, "an object with fields, not str"),
        (listed, "an object with fields, not list"),
        (unreadable, r"Open cannot be read.*becomes a .*\.Open; use a BaseModel"),
        (half, "Half cannot be read.*NowhereAtAll"),
        (lost, "'Missing' is not defined"),
    ],
)
def test_types_that_cannot_be_read_are_refused(play: Any, told: str) -> None:
    """
    Once all modules are imported: which agent, which line, which type.
    """
    made = agent("typed")(play)
    with pytest.raises(BadInputError, match=told) as refused:
        check_agents([made])
    text = told_in_one_sentence(refused.value)
    assert text.startswith("tests/unit/test_agent_function.py:")


def test_many_items_are_taken_as_a_list() -> None:
    """
    `batch_size` and the type of the input agree.
    """
    check_agents([agent("many", batch_size=5)(listed)])
    with pytest.raises(BadInputError, match="takes a list, not Errand"):
        check_agents([agent("few", batch_size=5)(simple)])


def test_a_function_may_play_two_roles() -> None:
    """
    Declared twice, it is two agents.
    """
    both = agent("first")(agent("second")(simple))
    assert both.func is simple
    assert set(registry.registered_agents()) == {"first", "second"}


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"version": 0}, "version is a whole number from 1 on, not 0"),
    ({"version": True}, "version is a whole number"),
    ({"version": "2"}, "version is a whole number"),
    ({"fallbacks": "keyword"}, r"write fallbacks=\('keyword',\)"),
    ({"fallbacks": ("a", "b c")}, "'b c', which is no role"),
    ({"fallbacks": ("a", "a")}, "names a role twice"),
    ({"fallbacks": ("it",)}, "the agent's own role"),
    ({"fallbacks": None}, "a tuple of roles, not NoneType"),
    ({"before": "it"}, "the agent's own role"),
    ({"before": ("a",)}, "before is a role"),
    ({"policy": {"failures": 2}}, r"write policy=Policy\(failures=2\)"),
    ({"policy": Policy}, "policy is a Policy, not"),
    ({"batch_size": -1}, "batch_size is from 0"),
    ({"batch_size": 2.5}, "batch_size is a whole number"),
    ({"migrate": "old"}, "migrate is a function"),
    ({"migrate": one}, r"called with \(version, value\), and takes \(given\)"),
    ({"migrate": simple}, "migrate is a plain function"),
]


@pytest.mark.parametrize(("options", "told"), OPTIONS)
def test_options_are_checked_when_they_are_written(
    options: dict[str, Any], told: str
) -> None:
    """
    Each in one sentence that says what to write.
    """
    with pytest.raises(BadInputError, match=told) as refused:
        agent("it", **options)(simple)
    assert "test_agent_function.py:" in told_in_one_sentence(refused.value)


@pytest.mark.parametrize("role", ["", "two words", "-x", "a/b", "x" * 101, 7, simple])
def test_roles_are_names(role: Any) -> None:
    """
    Also `@agent` without its brackets is told at once.
    """
    with pytest.raises(BadInputError, match=r"test_agent_function\.py:"):
        agent(role)


def test_fallbacks_may_be_a_list() -> None:
    """
    It is kept as a tuple.
    """
    assert agent("it", fallbacks=["a", "b"])(simple).fallbacks == ("a", "b")
