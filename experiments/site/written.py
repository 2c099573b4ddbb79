"""Pages that are kept as files: where each goes on the site, and its links with it."""

import os
import re
import shutil
from pathlib import Path

from wallcheck.writing import write_text

# Elsewhere in the repository -> on the site.
MOVED = {"theory/README.md": "theory/index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
ASSETS = {"docs": ("*.png", "*.json", "*.css"), "theory": ("figures/*.png",)}
LINK = re.compile(r"(\]\()([^)#\s]+)")


def written_pages(root: Path, out: Path) -> int:
    """Copy docs/ with its figures, and what MOVED names, to `out`, which is emptied first; returns the number of files."""
    shutil.rmtree(out, ignore_errors=True)
    docs = root / "docs"
    places = {path: out / path.relative_to(docs) for path in sorted(docs.rglob("*.md"))}
    places |= {root / source: out / place for source, place in MOVED.items()}
    for source, place in places.items():
        write_text(place, with_links(source.read_text(encoding="utf-8"), source, place, root, out))
    copies = [(docs, path) for kind in ASSETS["docs"] for path in docs.rglob(kind)]
    copies += [(root, path) for kind in ASSETS["theory"] for path in (root / "theory").glob(kind)]
    for base, path in copies:
        place = out / path.relative_to(base)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return len(copies)


def with_links(text: str, source: Path, place: Path, root: Path, out: Path) -> str:
    """The text with its links to files of the repository as links between pages."""

    def link(found: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", found[2]):
            return found[0]
        meant = (source.parent / found[2]).resolve().relative_to(root.resolve()).as_posix()
        goes = MOVED.get(meant) or (meant.removeprefix("docs/") if meant.startswith("docs/") else meant)
        return found[1] + os.path.relpath(out / goes, place.parent)

    return LINK.sub(link, text)
