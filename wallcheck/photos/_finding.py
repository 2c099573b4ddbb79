"""What a folder of photographs holds: the image files in it and the folders linked to it, and what was passed over."""

import os
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from wallcheck.photos._reading import expanded, formats


class PhotoNotice(UserWarning):
    """Something about a folder of photographs that a user should hear once."""


class Found(NamedTuple):
    """What a folder holds: its image files in sorted order, and what was passed over, kind -> count."""

    paths: list[Path]
    skipped: dict[str, int]

    def __str__(self) -> str:
        others = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
        return f"{len(self.paths)} images" + (f"; passed over: {others}" if others else "")

    def tell(self, folder: Path) -> None:
        """Warn of what was passed over, if anything was."""
        if self.skipped:
            warnings.warn(f"{folder}: {self}", PhotoNotice, stacklevel=3)


def find_photos(folder: str | Path) -> Found:
    """Every image file below a folder, by the suffixes of what this Pillow decodes.

    Names that begin with a dot are passed over in silence, as `ls` does. Links are followed: linked files, and linked
    folders once for each folder of the first level that leads to them. A linked folder that is met below `folder`
    anyway is not listed twice. A dead link named as an image counts as one, which cannot be read.
    """
    root, paths = expanded(folder), []
    skipped: Counter[str] = Counter()
    home = os.path.realpath(root)
    todo: list[tuple[str, set[str] | None]] = [(str(root), None)]
    while todo:
        place, seen = todo.pop()
        for entry in _entries(place, skipped):
            if not _is_folder(entry):
                kind = _kind(entry)
                skipped.update([kind] if kind else [])
                paths += [] if kind else [Path(entry.path)]
                continue
            # Each folder of the first level, a class, keeps its own account of what was seen on the way.
            known, real = {home} if seen is None else seen, os.path.realpath(entry.path)
            if real in known or (entry.is_symlink() and _is_listed(real, home)):
                skipped["linked folder(s), listed where they lie"] += 1
                continue
            known.add(real)
            todo.append((entry.path, known))
    return Found(sorted(paths), dict(skipped))


def class_folders(tree: str | Path) -> list[str]:
    """The names of the folders in a tree TREE/CLASS/IMAGE, in alphabetical order: ImageFolder's classes. Hidden ones do not count."""
    return sorted(entry.name for entry in _entries(str(expanded(tree)), Counter()) if _is_folder(entry))


def printable(path: str | Path) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8 become \\xe9 and the like."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@cache
def suffixes() -> frozenset[str]:
    """How files of these formats are called, in lower case; up to version 12 Pillow lists the empty suffix too."""
    return frozenset(end for end, name in Image.registered_extensions().items() if end and name in formats())


def _entries(folder: str, skipped: Counter) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        skipped["folder(s) that cannot be opened"] += 1
        return []


def _is_folder(entry: os.DirEntry) -> bool:
    """A folder or a link to one; nothing but links costs a call of the file system."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _kind(entry: os.DirEntry) -> str | None:
    """What a file is passed over as; None if it is an image."""
    is_dead = entry.is_symlink() and not os.path.exists(entry.path)
    if not (is_dead or entry.is_file()):
        return "pipe(s), socket(s) or device(s)"
    end = os.path.splitext(entry.name)[1].lower()
    if end in suffixes():
        return None
    return end or "without a suffix"


def _is_listed(real: str, home: str) -> bool:
    """Does a folder lie below home, with no hidden folder on the way?"""
    inner = os.path.relpath(real, home).split(os.sep)
    return inner == [os.curdir] or not any(part.startswith(".") for part in inner)
