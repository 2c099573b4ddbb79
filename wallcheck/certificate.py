"""The certificate: the proof of a wall in words, and this machine's arithmetic put to the test.

graph            what runs can be written as one graph, for every input and batch
proof            by dependence alone, no path leads from an unseen pixel or cell to a logit (`wallcheck.graph.proof`)
finite_weights   no weight is NaN or infinite
bits             any values in unseen pixels, extreme ones included, leave the logits identical (on a CPU, whose sums are plain)
gradient         d logits / d unseen pixels is exactly zero
maximal          every seen pixel at the border of the mask does change a logit (reported, not demanded)

The proof holds for all images, weights and batches; bits and gradient hold it against the machine (`wallcheck.arithmetic`). The same in training mode
is reported: norms that take the batch's own statistics open any wall, and no audit runs them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from wallcheck.arithmetic import Noise, bits, gradient, maximal, summed_plainly
from wallcheck.defaults import usual
from wallcheck.graph import BlindGraph, NotOneGraph, key_of, plainly
from wallcheck.models import BlindNet, as_blind, in_mode, tensor_of
from wallcheck.writing import write_text

DEMANDED = tuple((name, "eval") for name in ("graph", "proof", "finite_weights", "bits", "gradient"))


class BrokenWall(ValueError):
    """The model can see what it was declared not to see, or is not the model certified."""


@dataclass(frozen=True)
class Check:
    """One proof: its name, the mode the net was in, whether it holds, and what it found."""

    name: str
    mode: str
    passed: bool
    detail: str

    @property
    def word(self) -> str:
        """FAIL is what breaks the certificate; what is only reported is told in small letters."""
        return "pass" if self.passed else "FAIL" if (self.name, self.mode) in DEMANDED else "not so"


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved of one net: a record, compared with a net and never believed in its place.

    unseen_pixels (H, W) and unseen_cells (h, w) Boolean; fingerprint names the graph and all its tensors.
    """

    fingerprint: str
    unseen_pixels: np.ndarray
    unseen_cells: np.ndarray
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Is the wall proved, and something unseen behind it? A certificate that lacks a proof does not hold."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """Every demanded check that failed, with where; where none did, every one that is missing; a wall that hides nothing."""
        broken = [
            f"{c.name} ({c.mode}): {c.detail}"
            for c in self.checks
            if c.passed is not True and (c.name, c.mode) in DEMANDED
        ]
        made = {(check.name, check.mode) for check in self.checks}
        missing = [f"{name} ({mode}): not proved" for name, mode in DEMANDED if (name, mode) not in made]
        nothing = [] if self.unseen_pixels.any() and self.unseen_cells.any() else ["nothing is unseen"]
        return broken or missing or nothing

    def raise_if_broken(self) -> "Certificate":
        """Return self, or raise BrokenWall with every problem."""
        if problems := self.problems:
            raise BrokenWall("the wall is broken:\n  " + "\n  ".join(problems))
        return self

    def raise_if_other(self, net: BlindNet) -> "Certificate":
        """Return self, or raise BrokenWall unless net, proved anew, is exactly what was certified."""
        return self.raise_if_unlike(as_blind(net).exported())

    def raise_if_unlike(self, graph: BlindGraph) -> "Certificate":
        """Return self, or raise BrokenWall unless this graph has the fingerprint and the unseen masks recorded here."""
        if graph.fingerprint != self.fingerprint:
            raise BrokenWall(
                f"the certificate is for graph {self.fingerprint[:12]}, this net is {graph.fingerprint[:12]}; certify it again"
            )
        masks = (self.unseen_pixels, graph.proof.unseen_pixels), (self.unseen_cells, graph.wall.unseen)
        if not all(np.array_equal(one, two) for one, two in masks):
            raise BrokenWall(
                "the certificate's unseen pixels or cells are not those of the net it names; certify it again"
            )
        return self

    def summary(self) -> str:
        """A line per check, for people."""
        head = (
            f"{int(self.unseen_pixels.sum())} of {self.unseen_pixels.size} pixels unseen, graph {self.fingerprint[:12]}"
        )
        lines = [f"{c.word}  {c.name:<16}{c.mode:<6} {c.detail}" for c in self.checks]
        return "\n".join([head, *lines])

    def to_dict(self) -> dict:
        """JSON-able form; masks as lists of row strings of 0 and 1."""
        return {
            "fingerprint": self.fingerprint,
            "unseen_pixels": _rows(self.unseen_pixels),
            "unseen_cells": _rows(self.unseen_cells),
            "checks": [asdict(check) for check in self.checks],
        }

    def save(self, path: str | Path) -> None:
        write_text(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def from_dict(cls, kept: dict) -> "Certificate":
        """Of what `to_dict` gave; raises ValueError, KeyError or TypeError for anything else."""
        masks = _mask(kept["unseen_pixels"]), _mask(kept["unseen_cells"])
        checks = tuple(Check(**check) for check in kept["checks"])
        texts = [kept["fingerprint"], *(text for check in checks for text in (check.name, check.mode, check.detail))]
        if not all(isinstance(check.passed, bool) for check in checks) or not all(isinstance(t, str) for t in texts):
            raise TypeError("`passed` is true or false; `fingerprint`, `name`, `mode` and `detail` are text")
        return cls(kept["fingerprint"], *masks, checks)

    @classmethod
    def load(cls, path: str | Path) -> "Certificate":
        """The certificate kept at path; raises ValueError where there is none or it is damaged."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{path} is no whole certificate ({error!r})"
            raise ValueError(f"{what}; write it again with wallcheck certify --out") from None


@usual()
def certify(net: BlindNet, seeds: int = 3, images: int = 2) -> Certificate:
    """Prove or refute the blindness of net on its graph, made anew; the net is left as it was.

    seeds: independent draws of images and of values in unseen pixels; images: how many in each (one at least of both).
    The result may be broken: ask `holds` or call `raise_if_broken()`. A net without a wall has no unseen pixel, and its
    certificate does not hold.
    """
    if seeds < 1 or images < 1:
        raise ValueError(f"seeds is {seeds} and images is {images}; the arithmetic is tested on at least one of each")
    net = as_blind(net)
    try:
        graph = net.exported()
    except NotOneGraph as error:
        nothing = np.zeros(net.image_size, dtype=bool), np.zeros(net.wall.seen.shape, dtype=bool)
        return Certificate("", *nothing, (Check("graph", "eval", False, str(error)),))
    with plainly(graph.example.device):
        return Certificate(
            graph.fingerprint,
            graph.proof.unseen_pixels.copy(),
            net.wall.unseen.copy(),
            tuple(_checks(net, graph, seeds, images)),
        )


@usual()
def prove(net: BlindNet) -> BlindGraph:
    """The net's graph, made and proved anew; raises BrokenWall with every problem. What an audit runs."""
    try:
        graph = as_blind(net).exported()
    except NotOneGraph as error:
        raise BrokenWall(f"the wall cannot be proved: {error}") from None
    problems = graph.problems or ([] if graph.proof.unseen_pixels.any() else ["nothing is unseen"])
    problems += [] if (finite := _finite(graph)).passed else [finite.detail]
    if problems:
        raise BrokenWall("the wall is broken:\n  " + "\n  ".join(problems))
    return graph


@usual()
def fingerprint(net: BlindNet) -> str:
    """SHA-256 over the graph of what runs, the bytes of all its tensors and the wall: one name per function."""
    return as_blind(net).exported().fingerprint


def _checks(net: BlindNet, graph: BlindGraph, seeds: int, images: int) -> Iterator[Check]:
    nodes = sum(node.op == "call_function" for node in graph.run.graph.nodes)
    yield Check("graph", "eval", True, f"{nodes} operations, any batch size")
    unseen = int(graph.proof.unseen_pixels.sum())
    yield Check(
        "proof", "eval", not graph.problems, "; ".join(graph.problems) or f"no path from {unseen} pixels to a logit"
    )
    yield (finite := _finite(graph))
    if not finite.passed:  # NaN differs from itself, so the tests below would blame the wall
        return
    graph, net = summed_plainly(graph, net)
    noise = Noise(graph, seeds, images)
    yield Check("bits", "eval", *_verdict(bits(noise, graph.run)))
    yield Check("gradient", "eval", *_tried(gradient(noise, graph.run)))
    yield Check("maximal", "eval", *_tried(maximal(noise, graph.run)))
    trained = tensor_of(net)  # a half net's graph runs in float32, the net itself as it is
    with in_mode(net, training=True):
        for test in (bits, gradient):
            found = test(noise, lambda images: net(images.to(trained)).to(noise.unseen.device))
            yield Check(test.__name__, "train", *_tried(found))


def _tried(problems: Iterator[str]) -> tuple[bool, str]:
    """The verdict; of what does not run (the user's own code in training mode, what autograd cannot follow), why."""
    try:
        return _verdict(problems)
    except Exception as error:
        return False, f"could not be tried: {' '.join(str(error).split())[:120]}"


def _verdict(problems: Iterator[str]) -> tuple[bool, str]:
    """A proof yields what it finds wrong; the first finding is the report."""
    first = next(problems, None)
    return first is None, first or "holds"


def _finite(graph: BlindGraph) -> Check:
    for name, value in graph.run.named_buffers():
        told = ""
        if value.is_floating_point() and name.startswith("t_") and not torch.isfinite(value).all():
            told = f"{key_of(name)} holds NaN or infinity; train or load it again"
        elif (
            value.is_floating_point() and not name.startswith("t_") and value.isnan().any()
        ):  # infinity is how masks say no
            told = "what is computed of the weights (a norm of one, a parametrization) is NaN; train or load them again"
        if told:
            return Check("finite_weights", "eval", False, told)
    return Check("finite_weights", "eval", True, "holds")


def _rows(mask: np.ndarray) -> list[str]:
    return ["".join("01"[int(value)] for value in row) for row in mask]


def _mask(rows: list[str]) -> np.ndarray:
    return np.array([[letter == "1" for letter in row] for row in rows], dtype=bool)
