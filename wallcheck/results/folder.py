"""Where things lie in a run folder."""

import os
from pathlib import Path

from wallcheck.results.digests import file_name
from wallcheck.writing import at_home, sweep

ROWS, MANIFEST, EXAMPLES, TABLE = "rows", "manifest.json", "examples", "leakage.csv"


def writable(run: str | Path) -> Path:
    """The run folder, made if need be and rid of what killed writers left.

    Raises PermissionError, NotADirectoryError or IsADirectoryError before any work is done.
    """
    if not str(run):
        raise ValueError("the run folder has no name; give one with --out")
    run = at_home(run)
    try:
        (run / ROWS).mkdir(parents=True, exist_ok=True)
        probe = run / f".write-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{run} or a part of it is a file, not a folder; choose another --out") from None
    except OSError as error:
        raise PermissionError(f"cannot write into {run} ({error.strerror}); choose another --out") from None
    if (run / EXAMPLES).exists() and not (run / EXAMPLES).is_dir():
        raise NotADirectoryError(f"{run / EXAMPLES} is a file, where maps are to be kept; choose another --out")
    if (run / TABLE).is_dir():
        raise IsADirectoryError(f"{run / TABLE} is a folder, where the table is to be; choose another --out")
    for folder in (run, run / ROWS, run / EXAMPLES):
        sweep(folder)
    return run


def examples_of(run: str | Path, net: str, images: str) -> Path:
    """The file of maps kept for figures, whatever letters the names have."""
    return Path(run) / EXAMPLES / f"{file_name(net)}--{file_name(images)}.npz"


def shards(run: str | Path) -> list[Path]:
    return sorted((at_home(run) / ROWS).glob("*.parquet"))


def set_aside(path: Path) -> None:
    """Out of the rows, but not lost: NAME.parquet.aside. Another process may have done it already."""
    try:
        os.replace(path, path.with_name(f"{path.name}.aside"))
    except FileNotFoundError:
        return
