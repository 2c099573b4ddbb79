"""A Run says how much to simulate and where chance comes from; an Outcome is what a claim's simulation found."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from theory.geometries import Geometry, nearly_blind_geometry, random_geometry
from theory.proofs import Check
from theory.statistics import ZScores

CPU = torch.device("cpu")


def _silent() -> None:
    """The progress callback of a run that nobody watches."""


@dataclass(frozen=True)
class Run:
    """Budget and chance: equal runs on one kind of device find equal numbers, whichever claims run beside them."""

    seed: int = 0
    geometries: int = 60
    draws: int = 20_000  # per z-score
    device: torch.device = CPU
    tick: Callable[[], None] = _silent  # called once per geometry or curve point

    def generator(self, *label, device: str | torch.device | None = None) -> torch.Generator:
        """A stream of its own for each label, from the seed alone."""
        digest = hashlib.sha256(repr((self.seed, *label)).encode()).digest()
        return torch.Generator(device or self.device).manual_seed(int.from_bytes(digest[:7], "big"))

    def geometry(self, claim: str, index: int, depth: int | None = None) -> Geometry:
        """The index-th geometry of a claim, image on the run's device; the same on every device."""
        return self._here(random_geometry(index, self.generator(claim, "geometry", index, device="cpu"), depth))

    def nearly_blind_geometry(self, claim: str, index: int) -> Geometry:
        """The same for the geometries whose heads are often empty."""
        return self._here(nearly_blind_geometry(index, self.generator(claim, "nearly blind", index, device="cpu")))

    def _here(self, drawn: Geometry) -> Geometry:
        return replace(drawn, stem=replace(drawn.stem, image=drawn.stem.image.to(self.device)))


FULL = Run()
QUICK = Run(geometries=30, draws=6000)


@dataclass(frozen=True)
class Outcome:
    """Independent z-scores, exact checks on simulated networks, and plain numbers for the figures."""

    z: ZScores
    checks: tuple[Check, ...] = ()
    data: dict = field(default_factory=dict)
