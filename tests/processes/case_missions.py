"""
The missions of the cases: what each asks for, beside which neighbours.

The calm ones run at the same time on one stack. The rough ones block, compute, kill or
leave processes behind, so that each has the stack to itself.
"""

from typing import Any

NEIGHBOURS = ["n1", "n2", "n3"]


def task(id_: str, role: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "role": role, "required": False, **more}


def calm(folder: str) -> dict[str, dict[str, Any]]:
    """
    Missions by id; logs lie in *folder*.
    """

    def log(name: str) -> dict[str, str]:
        return {"log": f"{folder}/{name}.log"}

    odd = {
        name: [
            task("odd", f"c03-{name}", input=log(f"c03-{name}")),
            *(task(n, "c03-neighbour", input=log(f"c03-{name}-n")) for n in NEIGHBOURS),
        ]
        for name in ("base", "cancelled", "keyboard", "keyboard-plain", "exit-in-group")
    }
    approval = {"before": "effect"}
    missions: dict[str, Any] = {
        "c01": [task("t", "c01-refund", approval=approval, input=log("c01"))],
        "c02-approval": [
            task("t", "c02-approval", approval=approval, input=log("c02a"))
        ],
        "c02-giveup": [task("t", "c02-giveup", input=log("c02g"))],
        "c02-plain-group": [task("t", "c02-plain-group")],
        **{f"c03-{name}": tasks for name, tasks in odd.items()},
        "c06": [
            *(
                task(name, f"c06-{name}")
                for name in (
                    *("alias", "alias-default", "strict", "base64", "computed"),
                    *("inf", "int-keys", "json", "rich", "secret", "subclass"),
                )
            ),
            task("make", "c06-maker"),
            task("take", "c06-taker", needs=["make"]),
        ],
        "c11": [task(f"t{n}", "c11-ids", input=log("c11")) for n in range(8)],
        "c17-repeat": [task("t", "c17-repeat", input=log("c17r"))],
        "c17-park": [task("t", "c17-park", input=log("c17p"))],
        "c17-across-repeat": [
            task(n, "c17-across", input={**log("c17ar"), "unsure": "repeat"})
            for n in ("a", "b")
        ],
        "c17-across-park": [
            task(n, "c17-across", input={**log("c17ap"), "unsure": "park"})
            for n in ("a", "b")
        ],
        "c17-saves": [task("t", "c17-saves")],
        "c20": [
            task(name, f"c20-{name}")
            for name in (
                *("result", "save", "emit", "raise", "content", "once-result"),
                *("nul-result", "nul-raise", "nul-content", "nul-key", "bytes"),
                "escape",
            )
        ],
        "c22": [task(n, f"c22-{n}") for n in ("wrapped", "object", "partial")],
        "c36": [
            task("large", "c36-large", input=log("c36")),
            *(task(n, f"c36-{n}") for n in ("recursion", "memory", "nested")),
        ],
    }
    made = {id_: {"id": id_, "tasks": tasks} for id_, tasks in missions.items()}
    made["c01b"] = {
        "id": "c01b",
        "limits": {"tokens": 3000},
        "tasks": [task("t", "c01-spender")],
    }
    return made


def rough(folder: str) -> dict[str, dict[str, Any]]:
    """
    Missions by id, to be run one by one.
    """

    def one(role: str, **given: Any) -> dict[str, Any]:
        given = {"log": f"{folder}/{role}.log", **given}
        return {"id": role, "tasks": [task("t", role, input=given)]}

    roles = [
        *("c08-terminate", "c08-pool", "c08-forkpool", "c08-spawn", "c08-subprocess"),
        *("c18-effect", "c18-effect-park", "c18-plain", "c18-look"),
        *("c09-orphan", "c26-later"),
    ]
    return {
        **{role: one(role) for role in roles},
        "c38-native": one("c38-native", n=220_000_000),
    }
