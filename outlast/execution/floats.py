"""
inf and nan in standard JSON, which has neither: `{"$float": "inf"}` stands for them.
"""

import json
import math
from typing import Any

from pydantic import JsonValue

TAG = "$float"
_TAG_IN_JSON = b'"$float"'


def tagged(tree: Any) -> Any:
    """
    Replace inf and nan in *tree*, and what could be taken for such a replacement.
    """
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else {TAG: repr(tree)}
    if isinstance(tree, list):
        return [tagged(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    made = {key: tagged(each) for key, each in tree.items()}
    return {TAG: made} if _is_tag(tree) else made


def restored(tree: JsonValue) -> JsonValue:
    """
    Undo `tagged`.
    """
    if isinstance(tree, list):
        return [restored(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if not _is_tag(tree):
        return {key: restored(each) for key, each in tree.items()}
    inner = tree[TAG]
    if isinstance(inner, dict):
        return {key: restored(each) for key, each in inner.items()}
    return float(inner) if isinstance(inner, str) else tree


def parsed(text: str) -> JsonValue:
    """
    Read JSON with such tags. Without one its tree, which may be large, is not walked.
    """
    tree: JsonValue = json.loads(text)
    return restored(tree) if f'"{TAG}"' in text else tree


def with_constants(body: bytes) -> bytes:
    """
    Write `NaN` and `Infinity` for the tags in *body*, as pydantic reads them.
    """
    if _TAG_IN_JSON not in body:
        return body
    return json.dumps(restored(json.loads(body))).encode()


def holds_odd_float(tree: Any) -> bool:
    """
    Say whether there is an inf or nan in *tree*.
    """
    try:
        json.dumps(tree, allow_nan=False)
    except ValueError:
        return True
    return False


def _is_tag(tree: dict[Any, Any]) -> bool:
    return len(tree) == 1 and TAG in tree
