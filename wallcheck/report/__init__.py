"""A run folder as one HTML page that anyone can read: verdict first, then table, distributions, pictures, certificate, sources.

Everything is in the one file: it opens from disk, by keyboard, in the dark and on paper, and asks no network. It is made of
rows, kept maps and the manifest; no model is seen.
"""

from pathlib import Path

from wallcheck.report._page import page
from wallcheck.report._reading import Contents
from wallcheck.writing import at_home, write_text

NAME = "report.html"


def write(run_folder: str | Path, out: str | Path | None = None) -> Path:
    """Make the report of an audit's run folder; returns where it is: `out`, or report.html in the folder.

    Written whole or not at all. Raises FileNotFoundError where the folder is no audit's or holds no rows yet, ValueError where
    something in it is damaged or no leakage was measured, OSError where `out` cannot be written.
    """
    contents = Contents.read(run_folder)
    path = at_home(out) if out else contents.run / NAME
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, {path / NAME}")
    write_text(path, page(contents))
    return path
