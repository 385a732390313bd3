"""
Agents as linters would have them: what only annotations use is imported under
TYPE_CHECKING.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guest_types import Errand
    from nowhere import Missing  # type: ignore[import-not-found]

    from outlast import Context


async def guarded(given: Errand, ctx: Context) -> Any:
    return given.what


async def lost(given: Missing, ctx: Context) -> Any:
    return given
