"""Docstrings as they are written here, read as Markdown: examples become code, and a formula's * and _ stay themselves.

An extension of griffe; named in mkdocs.yml.
"""

import re

from griffe import Extension, Object

EXAMPLE = re.compile(r"^>>> ")


class Examples(Extension):
    """Put each doctest of a docstring into a fence."""

    def on_object(self, *, obj: Object, **_) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with each example, from its first >>> to the next empty line, as a block of code.

    >>> fenced("Twice.\\n\\n>>> 1 + 1\\n2\\n\\nThat is all.")
    'Twice.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nThat is all.'
    """
    blocks = text.split("\n\n")
    return "\n\n".join(f"```pycon\n{block.rstrip()}\n```" if EXAMPLE.match(block) else block for block in blocks)
