"""README and links as a package index shows them: absolute, at the address where the repository is published.

The address is `address` below `tool.hatch.metadata.hooks.custom` in pyproject.toml, or the environment's WALLCHECK_ADDRESS, "https://github.com/OWNER/wallcheck".
Without one the README goes into the package as it is, and the project has no links.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s]+)\)")
PAGES = {
    "Documentation": "/blob/main/docs/index.md",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Source": "",
    "Issues": "/issues",
}


class PublishedReadme(MetadataHookInterface):
    """Sets `readme` and `urls` of the project's metadata."""

    def update(self, metadata: dict) -> None:
        address = (os.environ.get("WALLCHECK_ADDRESS") or self.config.get("address", "")).rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, address) if address else text}
        metadata["urls"] = {name: address + page for name, page in PAGES.items()} if address else {}


def absolute(text: str, address: str) -> str:
    """Markdown whose links into the repository are links to its address: pages as they are shown there, pictures as files."""

    def whole(link: re.Match) -> str:
        picture, words, path = link.groups()
        return f"{picture}[{words}]({address}/{'raw' if picture else 'blob'}/main/{path})"

    return LINK.sub(whole, text)
