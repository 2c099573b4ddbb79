"""Tables of the pages in docs/ and of the README."""


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    """A table with a row of heads and a row for each line."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
