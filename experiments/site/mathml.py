"""Formulas as GitHub writes them, $`x`$ in a line and ```math in a block, to MathML: read by every browser, without a script.

An extension of Python-Markdown; named in zensical.toml.
"""

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

INLINE = r"\$`([^`]+)`\$"
BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BEFORE_CODE = 200  # Python-Markdown's own backticks come at 190
BEFORE_FENCES = 30  # pymdownx.superfences comes at 25


class InLine(InlineProcessor):
    """$`x`$ as an element kept as it is, so that nothing in it is read as Markdown."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


class InBlock(Preprocessor):
    """```math as a line of its own."""

    def run(self, lines: list[str]) -> list[str]:
        return BLOCK.sub(self._block, "\n".join(lines)).split("\n")

    def _block(self, found: re.Match[str]) -> str:
        formula = convert(found[1].strip(), display="block")
        ElementTree.fromstring(formula)  # a formula that is not well formed ends the build
        return "\n" + self.md.htmlStash.store(f'<div class="formula">{formula}</div>') + "\n"


class MathML(Extension):
    """Both."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.register(InBlock(md), "mathml-block", BEFORE_FENCES)
        md.inlinePatterns.register(InLine(INLINE, md), "mathml", BEFORE_CODE)


def makeExtension(**options) -> MathML:
    """What Python-Markdown asks a module for."""
    return MathML(**options)
