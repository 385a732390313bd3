"""
A LangGraph program of your own, made to outlast its process.

    OUTLAST_AGENTS=examples/triage.py outlast run \\
        examples/missions/triage.yaml --embedded

The graph's state is saved after each node; the next attempt takes it up behind the node
that was saved last. Thread and run are named after `ctx.key`, so that every attempt is
the same thread to LangGraph and to whatever traces it.
"""

import json
from pathlib import Path
from typing import Any, TypedDict
from uuid import NAMESPACE_OID, uuid5

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, JsonValue

from outlast import Context, agent


class Alarm(BaseModel):
    """
    What the task's input must look like.
    """

    id: str
    text: str
    pages: Path  # where pages are written, in place of a pager


class State(TypedDict, total=False):
    """
    What the nodes hand on.
    """

    text: str
    severity: str
    paged: str


class Saved(BaseModel):
    """
    What is saved after each node: its name and the state behind it.
    """

    node: str = ""
    state: dict[str, JsonValue] = {}


@agent("triage", version=1)
async def triage(alarm: Alarm, ctx: Context) -> dict[str, Any]:
    """
    Follow the graph to its end, going on behind the node that was saved last.
    """
    graph = graph_of(alarm, ctx)
    config = RunnableConfig(
        configurable={"thread_id": ctx.key}, run_id=uuid5(NAMESPACE_OID, ctx.key)
    )
    saved = await ctx.resume(Saved, Saved())
    given: State | None = {"text": alarm.text}
    if saved.node:
        await graph.aupdate_state(config, saved.state, as_node=saved.node)
        given = None
    state: dict[str, Any] = {"text": alarm.text, **saved.state}
    async for update in graph.astream(given, config, stream_mode="updates"):
        for node, change in update.items():
            ctx.emit(node)
            state |= change
            await ctx.save(Saved(node=node, state=state))
    return state


def graph_of(
    alarm: Alarm, ctx: Context
) -> CompiledStateGraph[State, None, State, State]:
    """
    The graph, whose nodes have *ctx* at hand: judge, then page or not.
    """

    async def judge(state: State) -> State:
        """
        A model's place, asked once.
        """
        return {"severity": "high" if "down" in state["text"] else "low"}

    async def page(state: State) -> State:
        paged = await ctx.once(
            f"page:{alarm.id}",  # what it is: nobody is woken twice
            lambda key, content: send(alarm.pages, key, content),
            content={"alarm": alarm.id, "severity": state["severity"]},
            if_unsure="repeat",  # send() honours the key
        )
        return {"paged": paged}

    builder = StateGraph(State)
    builder.add_node("judge", judge)
    builder.add_node("page", page)
    builder.add_edge(START, "judge")
    builder.add_conditional_edges("judge", urgent, {True: "page", False: END})
    builder.add_edge("page", END)
    return builder.compile(checkpointer=InMemorySaver())


def urgent(state: State) -> bool:
    """
    Whether somebody must be woken.
    """
    return state["severity"] == "high"


def send(pages: Path, key: str, content: dict[str, Any]) -> str:
    """
    Stand for a pager that honours idempotency keys.
    """
    sent = pages.read_text().splitlines() if pages.exists() else []
    if not any(json.loads(each)["key"] == key for each in sent):
        pages.parent.mkdir(parents=True, exist_ok=True)
        with pages.open("a") as file:
            file.write(json.dumps({"key": key, **content}) + "\n")
    return f"paged for {content['alarm']}"
