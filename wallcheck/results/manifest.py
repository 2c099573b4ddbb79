"""The manifest of a run folder: the study it holds, who made it with what, and what was asked for so far."""

import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wallcheck.results.digests import digest, plain
from wallcheck.results.folder import MANIFEST
from wallcheck.writing import at_home, write_new, write_text

PACKAGES = ("wallcheck", "torch", "torchvision", "lightning", "numpy", "scipy", "pandas")
FORMAT = 2


@cache
def _looked_up() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@dataclass(frozen=True)
class Manifest:
    """How a run was made: what to repeat to get its rows again.

    study: what a row's value depends on beside its key: weights of every net and of the net in whose unseen region it is
    measured, targets, seed, and of each image set as many images as the folder began with, their pixels, labels and
    classes. One folder holds one study. config: what was asked for so far (methods, metrics, count), which may grow.
    """

    config: dict
    study: dict = field(default_factory=dict)
    certificates: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: dict(_looked_up()))
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    device: str = "cpu"
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Names the study; every shard carries it."""
        return digest(self.study) if self.study else ""

    @property
    def image_sets(self) -> dict:
        """Name of each image set -> what is kept of it."""
        return self.study.get("image_sets", {})

    def save(self, run: Path) -> None:
        write_text(Path(run) / MANIFEST, self._text)

    def claim(self, run: Path) -> bool:
        """Write the manifest if the folder has none; of several processes at once one is told True."""
        return write_new(Path(run) / MANIFEST, self._text)

    @property
    def _text(self) -> str:
        return json.dumps(asdict(self), indent=1, default=str) + "\n"

    @classmethod
    def load(cls, run: str | Path) -> "Manifest":
        path = at_home(run) / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{run} holds no {MANIFEST}, so it is no run folder; give the --out of an audit")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(fields, dict) and fields.get("format", 1) != FORMAT:
                raise ValueError(
                    f"format {fields.get('format', 1)}, not {FORMAT}: another version of wallcheck wrote it"
                )
            return cls(**fields)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove the folder or choose another --out") from None

    def grown(self, config: dict) -> "Manifest":
        """With what is asked for now beside what was asked for before."""
        grown = _union(self.config, config)
        return replace(self, config=grown if isinstance(grown, dict) else config)

    def differences(self, other: "Manifest") -> list[str]:
        """Fields of the study in which other is another one: 'seed: 0 there, 1 here'; none if it is the same."""
        ours, theirs = _fields(self.study), _fields(other.study)
        names = [name for name in dict.fromkeys([*ours, *theirs]) if plain(ours.get(name)) != plain(theirs.get(name))]
        return [f"{name}: {_short(ours.get(name))} there, {_short(theirs.get(name))} here" for name in names]


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    return dict(_looked_up())


def typed() -> str:
    """The command that started this process, to be typed again."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = sys.argv[0] if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name
    started = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", script]
    return shlex.join([*(started if spec or script.endswith(".py") else [script or "python"]), *sys.argv[1:]])


def _union(before: object, now: object) -> object:
    """Of lists everything, of numbers the larger one, of the rest what is new; None is all and stays."""
    if before is None or now is None:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        return before | {name: _union(before[name], value) if name in before else value for name, value in now.items()}
    if isinstance(before, list) and isinstance(now, list):
        return [*before, *(one for one in now if one not in before)]
    if isinstance(before, int) and isinstance(now, int):
        return max(before, now)
    return now


def _fields(value: dict, above: str = "") -> dict[str, object]:
    """A nested dictionary as dotted names."""
    flat: dict[str, object] = {}
    for name, inner in value.items():
        flat |= _fields(inner, f"{above}{name}.") if isinstance(inner, dict) else {f"{above}{name}": inner}
    return flat


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return f"{text[:12]}..." if len(text) > 24 else text
