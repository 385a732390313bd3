"""A tool loop that turns every exception into a text for the model, as frameworks do."""

from pathlib import Path

from outlast import Context, agent


@agent("c01-refund")
async def refund(given: dict, ctx: Context) -> dict:
    try:
        await ctx.once(
            "c01:pay",
            lambda key: Path(given["log"]).open("a").write(key + "\n"),
            content=None,
        )
        said = "paid"
    except Exception as error:  # the tool's error goes back to the model
        said = f"tool failed: {type(error).__name__}"
    return {"summary": f"customer told: {said}"}
