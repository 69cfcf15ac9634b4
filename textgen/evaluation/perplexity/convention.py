"""What can be wrong with the settings of a perplexity convention; imports nothing, since parsing flags imports it."""


def convention_problems(
    convention: str, stride: int | None, context: int | None = None, *, name: str = "the model's context"
) -> list[str]:
    """Invalid settings, one message each.

    Args:
        convention: "rolling" or "strided".
        stride: tokens from the start of one window to the next; None for the default.
        context: maximum number of tokens that the model reads at once, if the model is known.
        name: what messages call the context.
    """
    found = []
    if convention not in ("rolling", "strided"):
        found.append(f"--convention {convention!r}: unknown convention. Choose rolling or strided.")
    if stride is None:
        return found
    if convention == "rolling":
        found.append(f"--stride {stride}: requires --convention strided. Set it, or omit --stride.")
    if stride < 1:
        found.append(f"--stride {stride}: must be at least 1.")
    if context is not None and stride > context:
        found.append(f"--stride {stride}: exceeds {name}. Use {context} or less.")
    return found
