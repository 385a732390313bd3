"""
What model clients import with their first call, imported before it: a second and
more, in which an event loop would stand still. Only of clients that the agents have
imported themselves; nothing is opened.
"""

import logging
import os
import sys
from importlib import import_module

logger = logging.getLogger("outlast.fleet")

# By the library that imports them when it is used first.
LAZY_MODULES = {
    "httpx": ("anyio._backends._asyncio", "httpcore"),
    "openai": (
        "openai.resources.chat",
        "openai.resources.responses",
        "openai.resources.embeddings",
    ),
    "anthropic": ("anthropic.resources.messages", "anthropic.resources.beta"),
}
# Of pydantic-ai, by the key that says which of its models are asked.
CLIENTS_BY_KEY = {
    "OPENAI_API_KEY": "pydantic_ai.models.openai",
    "ANTHROPIC_API_KEY": "pydantic_ai.models.anthropic",
    "GOOGLE_API_KEY": "pydantic_ai.models.google",
    "GEMINI_API_KEY": "pydantic_ai.models.google",
    "GROQ_API_KEY": "pydantic_ai.models.groq",
    "MISTRAL_API_KEY": "pydantic_ai.models.mistral",
}


def warm_clients() -> None:
    """
    Import what the clients that are imported already will import by themselves.
    """
    if "pydantic_ai" in sys.modules:
        for key, module in CLIENTS_BY_KEY.items():
            if os.environ.get(key):
                _try(module)
    for library, modules in LAZY_MODULES.items():
        if library in sys.modules:
            for module in modules:
                _try(module)


def _try(module: str) -> None:
    try:
        import_module(module)
    except Exception as error:
        # Another release of the client: it imports what it needs when it needs it.
        logger.debug("client.not_warmed %s: %s", module, error)
