"""Files appear whole or not at all: written beside, then renamed; and no reader is owed an error for leaving."""

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
PARTIAL = re.compile(r"\..+\.(?P<host>[0-9a-f]{6})-(?P<process>\d+)-[0-9a-f]{8}\.partial")


def at_home(path: str | Path) -> Path:
    """path with a leading ~ read as the home folder: no shell does that in --out=~/runs. Raises ValueError for no path at all, which
    pathlib takes for the working folder and a shell makes of a variable that is not set."""
    if path == "":
        raise ValueError("a path is empty; write it out, . for the folder you are in")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}; write the path out") from None


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name next to path, of its own even when several processes write path at once; folders are made.

    Renamed to path once the block has succeeded, removed if it failed.
    """
    partial = _partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new folder next to path, of its own as in `beside`; the block gives it its name. What is left of it is removed, and so is
    what killed processes left beside path."""
    partial = _partial(path)
    try:
        sweep(path.parent)
        partial.mkdir()
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_new(path: Path, text: str) -> bool:
    """Write path unless it is there. Of several processes at once exactly one is told True, and no other reads half a file."""
    partial = _partial(path)
    try:
        partial.write_text(text, encoding="utf-8")
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: still exclusive, though a reader may meet it half written
        return _write_exclusively(path, text)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _write_exclusively(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _partial(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{uuid4().hex[:8]}.partial")


def sweep(folder: Path) -> None:
    """Remove what writers of this machine left beside their files and folders when they were killed; living ones are left alone."""
    for path in folder.glob(".*.partial"):
        found = PARTIAL.fullmatch(path.name)
        if found and found["host"] == HOST and not _lives(int(found["process"])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def say(text: str) -> None:
    """Print text at once. A reader who has left (`| head`) is no error: what else is printed goes nowhere."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
