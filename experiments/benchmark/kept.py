"""What a benchmark has found, kept work by work in benchmark.jsonl, which is whole after each of them.

A line of JSON without "work" begins a section: the terms on which its numbers were measured, the machine's rate, and all works that
there are. Any other line is what one work of a section found. Numbers of two machines, devices, precisions, sets of versions or
settings never meet in a section.
"""

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from experiments.benchmark.duels import Duel
from wallcheck.models import PRESETS
from wallcheck.results import digest
from wallcheck.writing import write_text

FILE = "benchmark.jsonl"


@dataclass(frozen=True)
class Terms:
    """On what terms numbers were measured. clock: "wall" or "processor"; budget_mb: None where it followed the device; machine: its
    processor and how many cores; gpu: its name where the device is one; versions: package -> version."""

    net: str
    device: str
    precision: str
    batch: int
    threads: int
    clock: str
    budget_mb: float | None
    full: bool
    machine: str
    gpu: str | None
    versions: dict[str, str]

    @property
    def key(self) -> str:
        return digest(asdict(self))

    @property
    def subject(self) -> tuple:
        """What a page shows once, by the latest terms."""
        return self.machine, self.gpu, self.net, self.device, self.precision


@dataclass(frozen=True)
class Found:
    """What one work found, duels or MiB of memory. rounds, seconds: what was asked for; load: of the machine at its end."""

    rounds: int
    seconds: float
    load: float
    duels: list[Duel] = field(default_factory=list)
    mb: float | None = None

    def serves(self, rounds: int, seconds: float) -> bool:
        """Whether as much was asked for as is now."""
        return self.mb is not None or (self.rounds >= rounds and self.seconds >= seconds)


@dataclass(frozen=True)
class Measured:
    """A section: everything measured on the same terms. rate: floating-point operations per second; operations: of one forward to
    the target layer; works: all there are, in the order of the page."""

    terms: Terms
    rate: float
    operations: int
    works: list[str]
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """Seconds one forward to the target layer would take at the rate of a large matrix product."""
        return self.operations / self.rate

    @property
    def duels(self) -> list[Duel]:
        return [duel for work in self.works if work in self.found for duel in self.found[work].duels]

    @property
    def memory(self) -> dict[str, float]:
        """What was run -> MiB above the loaded model."""
        found = {work.removeprefix("memory of "): self.found[work].mb for work in self.works if work in self.found}
        return {what: mb for what, mb in found.items() if mb is not None}

    @property
    def missing(self) -> list[str]:
        return [work for work in self.works if work not in self.found]


class Kept:
    """The sections of a folder, the one that was gone on with last at the end."""

    def __init__(self, folder: str | Path):
        """Raises ValueError for a file that is not a benchmark's."""
        self.path, self.begun = Path(folder) / FILE, set()
        self.sections: dict[str, Measured] = {}
        if self.path.is_file():
            try:
                self._read(self.path.read_text(encoding="utf-8").splitlines())
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{self.path} is no benchmark's ({error!r}); choose another --out") from None

    def _read(self, lines: Iterable[str]) -> None:
        for line in map(json.loads, lines):
            if "work" in line:
                duels = [Duel(**one) for one in line["found"].pop("duels")]
                self.sections[line["of"]].found[line["work"]] = Found(**line["found"], duels=duels)
            else:
                section = Measured(Terms(**line["terms"]), line["rate"], line["operations"], line["works"])
                self.sections[section.terms.key] = section

    def begin(self, terms: Terms, works: Sequence[str], pace: Callable[[], tuple[float, int]]) -> Measured:
        """The section on these terms, with what is kept of it; pace: gives rate and operations of one that is new."""
        before = self.sections.pop(terms.key, None)
        about, found = (pace(), {}) if before is None else ((before.rate, before.operations), before.found)
        section = self.sections[terms.key] = Measured(terms, *about, list(works), found)
        self.begun.add(terms.key)
        self._write()
        return section

    def keep(self, section: Measured, work: str, found: Found) -> None:
        section.found[work] = found
        self._write()

    def _write(self) -> None:
        """Another process may have written meanwhile: its sections are kept as they are now, its works of ours beside ours."""
        for key, other in Kept(self.path.parent).sections.items():
            if key in self.begun:
                found = self.sections[key].found
                found.update({work: one for work, one in other.found.items() if work not in found})
            else:
                self.sections[key] = other
        text = "".join(f"{json.dumps(line)}\n" for one in self.sections.values() for line in _lines(one))
        write_text(self.path, text)

    @property
    def shown(self) -> list[Measured]:
        """Of each machine, device, net and precision what was measured on the latest terms; CPUs first, nets in the presets' order."""
        latest = {section.terms.subject: section for section in self.sections.values() if section.found}
        order = list(PRESETS)
        places = {name: place for place, name in enumerate(order)}
        return sorted(
            latest.values(), key=lambda one: (one.terms.device != "cpu", places.get(one.terms.net, len(order)))
        )

    @property
    def hidden(self) -> int:
        """How many sections on earlier terms are kept beside."""
        return sum(bool(section.found) for section in self.sections.values()) - len(self.shown)


def _lines(section: Measured) -> Iterable[dict]:
    yield dict(terms=asdict(section.terms), rate=section.rate, operations=section.operations, works=section.works)
    for work, found in section.found.items():
        yield dict(of=section.terms.key, work=work, found=asdict(found))


def processor() -> str:
    """This machine's processor and how many cores there are: two machines of one kind are one here."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} cores"
