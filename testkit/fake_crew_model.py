"""
A script that plays the model of the shipped crew: it answers each role as a modest
model would, from nothing but what it was asked.
"""

import re

from testkit.fake_model_server import Answer, ModelRequest, ToolCall

FINAL_TOOL = "final_result"
_PASSAGE = re.compile(
    r'<(quoted-\w+) from="(?P<place>[^"]+)">\n(?P<text>.*?)\n</\1>', re.DOTALL
)
_QUOTABLE_SENTENCE = re.compile(r"[A-Z][^.\n]{20,}?\.")


def answer_as_crew(asked: ModelRequest) -> Answer:
    """
    Answer whichever role asks: its answer's shape says which.
    """
    wanted = set(asked.tools[FINAL_TOOL]["properties"])
    prompt = str(next(m for m in asked.messages if m["role"] == "user")["content"])
    if wanted == {"questions"}:
        return [ToolCall(FINAL_TOOL, {"questions": [prompt]})]
    if wanted == {"quotations"}:
        return _research(asked, prompt)
    if wanted == {"paragraphs"}:
        return [ToolCall(FINAL_TOOL, {"paragraphs": _paragraphs(prompt)})]
    return [ToolCall(FINAL_TOOL, {"unsupported": []})]


def _research(asked: ModelRequest, prompt: str) -> Answer:
    if asked.turn == 1:
        return [ToolCall("find", {"query": prompt.splitlines()[0]})]
    quotations = [
        {"document": place.rpartition(":")[0], "quote": sentence}
        for _, place, text in _PASSAGE.findall(asked.texts[-1])
        for sentence in _QUOTABLE_SENTENCE.findall(text)[:1]
    ]
    return [ToolCall(FINAL_TOOL, {"quotations": quotations[:2]})]


def _paragraphs(prompt: str) -> list[dict[str, object]]:
    numbers = [int(at) for at in re.findall(r"^Question (\d+):", prompt, re.MULTILINE)]
    return [
        {"question": at, "text": f"In short, answer {at}.", "quotations": [1]}
        for at in numbers
    ]
