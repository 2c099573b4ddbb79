"""Rows on disk: one measurement each, in Parquet shards, with a manifest of how they were made.

Rows are kept, not means; a mean is a question asked of the rows. The merged table does not depend on
how the work was split.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from wallcheck.statistics import interval
from wallcheck.writing import beside, write_text

KEY = ["net", "images", "image", "method", "view", "on", "metric"]
COLUMNS = [*KEY, "target", "value"]
TEXT = ["net", "images", "method", "view", "on", "metric"]
PACKAGES = ("wallcheck", "torch", "torchvision", "lightning", "numpy", "scipy", "pandas")
ROWS, MANIFEST = "rows", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """How a run was made: what to repeat to get its rows again.

    certificates and image sets are kept per name; `config` holds every setting, seeds included.
    """

    config: dict
    certificates: dict = field(default_factory=dict)
    image_sets: dict = field(default_factory=dict)
    versions: dict = field(default_factory=lambda: versions())
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    device: str = "cpu"
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def save(self, run: Path) -> None:
        write_text(run / MANIFEST, json.dumps(asdict(self), indent=1, default=str) + "\n")

    @classmethod
    def load(cls, run: Path) -> "Manifest":
        path = Path(run) / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{run} holds no {MANIFEST}, so it is no run folder; give the --out of an audit")
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove the folder or choose another --out") from None

    def same_work_as(self, other: "Manifest") -> bool:
        """Would both give the same rows? Time, machine and versions may differ, weights and settings may not."""
        return all(
            _plain(getattr(self, name)) == _plain(getattr(other, name))
            for name in ("config", "certificates", "image_sets")
        )


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def writable(run: str | Path) -> Path:
    """The run folder, made if need be; raises PermissionError or NotADirectoryError before any work is done."""
    run = Path(run)
    try:
        (run / ROWS).mkdir(parents=True, exist_ok=True)
        probe = run / f".write-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{run} or a part of it is a file, not a folder; choose another --out") from None
    except OSError as error:
        raise PermissionError(f"cannot write into {run} ({error.strerror}); choose another --out") from None
    return run


def write_shard(run: Path, table: pd.DataFrame) -> Path:
    """Keep one piece of work: the rows of some images of one net on one image set, all methods together."""
    first = table.iloc[0]
    name = f"{_file_name(first['net'])}--{_file_name(first['images'])}--{table['image'].min():06d}.parquet"
    path = Path(run) / ROWS / name
    with beside(path) as partial:
        table[COLUMNS].to_parquet(partial, index=False)
    return path


def shards(run: str | Path) -> list[Path]:
    return sorted((Path(run) / ROWS).glob("*.parquet"))


def done(run: str | Path, net: str, images: str) -> set[int]:
    """Indices of the images whose rows are kept already."""
    pattern = f"{_file_name(net)}--{_file_name(images)}--*.parquet"
    found = [pd.read_parquet(path, columns=["image"])["image"] for path in (Path(run) / ROWS).glob(pattern)]
    return set(pd.concat(found).unique().tolist()) if found else set()


def merge(run: str | Path) -> pd.DataFrame:
    """All rows of a run, sorted by key; raises ValueError if one thing was measured twice."""
    found = shards(run)
    if not found:
        raise FileNotFoundError(f"{run} holds no rows; run python -m experiments.audit --out {run} first")
    return sorted_rows(pd.read_parquet(path) for path in found)


def sorted_rows(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table in the order of the key, texts as categories; refuses double measurements."""
    table = pd.concat(list(tables), ignore_index=True)
    for column in TEXT:
        table[column] = pd.Categorical(table[column].astype(str))
    table = table[COLUMNS].sort_values(KEY, ignore_index=True)
    twice = table.duplicated(KEY)
    if twice.any():
        one = table.loc[twice.idxmax(), KEY].to_dict()
        raise ValueError(f"{one} was measured twice; were two runs written to one folder?")
    return table


def summary(table: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Mean over images with its 95 % interval (`wallcheck.statistics.interval`), per group of rows.

    A value of NaN means that the map was empty and the metric is not defined: such images are left
    out of mean and interval and counted in `empty`, so that an empty map does not pass as clean.
    Columns: by..., mean, low, high, std (unbiased), count, empty (share).
    """
    by = by or [name for name in KEY if name != "image"]
    groups = []
    for key, values in table.groupby(by, observed=True)["value"]:
        key = key if isinstance(key, tuple) else (key,)
        groups.append({**dict(zip(by, key, strict=True)), **interval(values.to_numpy())})
    return pd.DataFrame(groups, columns=[*by, "mean", "low", "high", "std", "count", "empty"])


def split(table: pd.DataFrame, metric: str = "leak_mass") -> pd.DataFrame:
    """Where the leakage on the image comes from, per image and method.

    bleed: left when unseen cells are emptied before upsampling. method: what the unseen cells'
    own attribution adds. artefact: what stretching the signed map to [0, 1] adds to the
    rectified map. The three sum to the leakage of the stretched map; artefact can be negative
    where stretching brightens the seen part more. An empty map has no parts: NaN.
    """
    keys = ["net", "images", "image", "method", "view"]
    wide = table[(table["metric"] == metric) & (table["on"] == "image")].set_index(keys)["value"].unstack("view")
    parts = pd.DataFrame(
        {
            "method_leakage": wide["rectified"] - wide["confined"].fillna(0),
            "bleed": wide["confined"].fillna(0),
            "artefact": wide["stretched"] - wide["rectified"],
        }
    )
    return parts.reset_index()


def _file_name(name: str) -> str:
    """name in letters that every file system takes; names that differ stay different."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", str(name))
    return plain if plain == name else f"{plain}-{hashlib.sha256(str(name).encode()).hexdigest()[:8]}"


def _plain(value: dict) -> str:
    return json.dumps(value, sort_keys=True, default=str)
