"""What README and docs tell a reader to type: blocks of Python, and commands with their flags."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Written by hand; the pages of docs/results are written by the commands that they name, but for the first.
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs/results/index.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
EVERY = [*PAGES, ROOT / "theory/README.md", *sorted((ROOT / "docs/results").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMANDS = re.compile(r"(python -m|wallcheck|make|pip|pytest|torchrun|srun) \S")
NOT_RUN = re.compile(r"# Not run: .{10,}")


@dataclass(frozen=True)
class Block:
    """A block of Python on a page. title: the file that the page says it is; None for what is typed."""

    page: Path
    line: int
    title: str | None
    code: str

    @property
    def is_run(self) -> bool:
        return not NOT_RUN.match(self.code)


def blocks(page: Path) -> list[Block]:
    """The blocks of Python of a page, in order."""
    text = page.read_text()
    found = [(m, text[: m.start()].count("\n") + 2) for m in FENCE.finditer(text) if m[1] == "python"]
    return [Block(page, line, m[2], m[3]) for m, line in found if not m[3].startswith(">>>")]


def settings() -> dict[str, str]:
    """The files of settings that pages show, by name."""
    return {
        m[2]: m[3] for page in PAGES for m in FENCE.finditer(page.read_text()) if m[1] == "yaml" and m[2] is not None
    }


def commands(page: Path) -> Iterator[str]:
    """The commands of a page: each line of a block of shell, and each in the text that begins as one."""
    text = page.read_text()
    for fence in FENCE.finditer(text):
        if fence[1] in ("sh", "console", "bash", ""):
            yield from filter(None, (_bare(line) for line in fence[3].replace("\\\n", " ").splitlines()))
    yield from (m[1] for m in INLINE.finditer(FENCE.sub("", text)) if COMMANDS.match(m[1]))


def _bare(line: str) -> str:
    """A line of shell without prompt and comment.

    >>> _bare("$ make test   # all of it"), _bare("  # only a comment")
    ('make test', '')
    """
    return re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ")
