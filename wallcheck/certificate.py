"""The proofs of blindness. Blindness is proved, not assumed; an audit refuses a model without a certificate.

structure        no head weight reads an unseen cell: NaN there leaves every logit as it is
receptive field  integer arithmetic over the layers as they are now gives the mask declared
bits             any values in unseen pixels, extreme ones included, leave the logits identical
gradient         d logits / d unseen pixels is exactly zero
maximal          every seen pixel at the border of the mask does change a logit
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wallcheck.geometry import regions
from wallcheck.models import BlindNet, in_mode, layers_of
from wallcheck.writing import write_text

EXTREMES = (0.0, 1.0, -1e3, 1e6)
SPIKES = (1e3, -1e3, 1e6, -1e6)
PROOFS = (
    ("receptive_field", "any"),
    ("finite_weights", "any"),
    *((name, mode) for mode in ("eval", "train") for name in ("structure", "bits", "gradient")),
    ("maximal", "eval"),
)


class BrokenWall(ValueError):
    """The model can see what it was declared not to see, or is not the model certified."""


@dataclass(frozen=True)
class Check:
    """One proof: its name, the mode the net was in, whether it holds, and what it found."""

    name: str
    mode: str
    passed: bool
    detail: str


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved of one set of weights.

    unseen_pixels (H, W) and unseen_cells (h, w) Boolean; fingerprint names the weights.
    """

    fingerprint: str
    unseen_pixels: np.ndarray
    unseen_cells: np.ndarray
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Was everything proved? A certificate that lacks a proof does not hold."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """Every failed check with where it failed; where none failed, every proof that is missing."""
        broken = [f"{check.name} ({check.mode}): {check.detail}" for check in self.checks if not check.passed]
        made = {(check.name, check.mode) for check in self.checks}
        return broken or [f"{name} ({mode}): not proved" for name, mode in PROOFS if (name, mode) not in made]

    def raise_if_broken(self) -> "Certificate":
        """Return self, or raise BrokenWall with every problem."""
        if problems := self.problems:
            raise BrokenWall("the wall is broken:\n  " + "\n  ".join(problems))
        return self

    def raise_if_other(self, net: BlindNet) -> "Certificate":
        """Return self, or raise BrokenWall unless net carries exactly the weights and wall that were certified."""
        if (now := fingerprint(net)) != self.fingerprint:
            raise BrokenWall(
                f"the certificate is for weights {self.fingerprint[:12]}, this net has {now[:12]}; certify it again"
            )
        return self

    def summary(self) -> str:
        """A line per check, for people."""
        head = f"{int(self.unseen_pixels.sum())} of {self.unseen_pixels.size} pixels unseen, weights {self.fingerprint[:12]}"
        lines = [f"{'pass' if c.passed else 'FAIL'}  {c.name:<16}{c.mode:<6} {c.detail}" for c in self.checks]
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
    def load(cls, path: str | Path) -> "Certificate":
        """The certificate kept at path; raises ValueError where there is none or it is damaged."""
        try:
            raw = json.loads(Path(path).read_text())
            masks = _mask(raw["unseen_pixels"]), _mask(raw["unseen_cells"])
            return cls(raw["fingerprint"], *masks, tuple(Check(**check) for check in raw["checks"]))
        except (ValueError, KeyError, TypeError) as error:
            what = f"{path} is no whole certificate ({error!r})"
            raise ValueError(f"{what}; write it again with wallcheck certify --out") from None


def certify(net: BlindNet, seeds: int = 3, images: int = 2) -> Certificate:
    """Prove or refute the blindness of net, in eval and in training mode; the net is left as it was.

    seeds: independent draws of images and of values in unseen pixels; images: how many in each.
    The result may be broken: ask `holds` or call `raise_if_broken()`. A net without a wall has no
    unseen pixel, and its certificate says so.
    """
    checks = [_receptive_field(net), _finite(net)]
    if checks[-1].passed:  # NaN differs from itself, so the proofs below would blame the wall
        checks += _proofs(net, seeds, images)
    return Certificate(fingerprint(net), net.regions.unseen.copy(), net.wall.unseen.copy(), tuple(checks))


def _proofs(net: BlindNet, seeds: int, images: int) -> Iterator[Check]:
    for mode in ("eval", "train"):
        with in_mode(net, training=mode == "train"):
            for proof in (_structure, _bits, _gradient):
                yield Check(proof.__name__[1:], mode, *_verdict(proof(net, seeds, images)))
    with in_mode(net):
        yield Check("maximal", "eval", *_verdict(_maximal(net, seeds)))


def fingerprint(net: BlindNet) -> str:
    """SHA-256 over names, shapes and bytes of all weights, over the geometry declared and that of the layers now."""
    geometry = repr((net.image_size, net.layers, layers_of(net.features)))
    digest = hashlib.sha256(geometry.encode() + net.wall.seen.tobytes())
    for name, value in sorted(net.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.view(torch.uint8).numpy().data if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()


def _verdict(problems: Iterator[str]) -> tuple[bool, str]:
    """A proof yields what it finds wrong; the first finding is the report."""
    first = next(problems, None)
    return first is None, first or "holds"


def _receptive_field(net: BlindNet) -> Check:
    now = regions(net.wall, layers_of(net.features), net.image_size).unseen
    late = net.regions.unseen & ~now
    if late.any():
        y, x = np.argwhere(late)[0]
        detail = f"pixel ({y}, {x}) is declared unseen, but the layers as they are reach it; {late.sum()} such pixels"
        return Check("receptive_field", "any", False, detail)
    return Check("receptive_field", "any", True, f"{int(now.sum())} unseen pixels by interval arithmetic")


def _finite(net: BlindNet) -> Check:
    bad = [name for name, value in net.state_dict().items() if not value.isfinite().all()]
    detail = f"NaN or infinity in {', '.join(bad[:3])}; train the model again or copy its file again"
    return Check("finite_weights", "any", not bad, detail if bad else "holds")


def _structure(net: BlindNet, seeds: int, images: int) -> Iterator[str]:
    unseen = _on(net, net.wall.unseen)
    for seed in range(seeds):
        with torch.no_grad():
            activations = net.activations(_noise(net, seed, images))
            poisoned = activations.clone()  # in the same memory layout, since sums in another order round differently
            poisoned[:, :, unseen] = float("nan")
            before, after = _logits(net, activations, seed), _logits(net, poisoned, seed)
        if not torch.equal(before, after):
            logit = int((before != after).any(0).nonzero()[0])
            cell = _first_cell_read(net, activations, seed)
            yield f"the head reads unseen cell {cell}; NaN there changes logit {logit}"


def _first_cell_read(net: BlindNet, activations: Tensor, seed: int) -> tuple[int, int] | None:
    for i, j in np.argwhere(net.wall.unseen):
        poisoned = activations.clone()
        poisoned[:, :, i, j] = float("nan")
        with torch.no_grad():
            if _logits(net, poisoned, seed).isnan().any():
                return int(i), int(j)
    return None


def _bits(net: BlindNet, seeds: int, images: int) -> Iterator[str]:
    """The whole features are run here, not only the part that `forward` needs, so the claim is about the network."""
    unseen = _on(net, net.regions.unseen)
    for seed in range(seeds):
        plain = _noise(net, seed, images)
        values = [1e3 * _noise(net, seed + 10_000, images), *(torch.full_like(plain, v) for v in EXTREMES)]
        before = _whole_logits(net, plain, seed)
        for value in values:
            after = _whole_logits(net, torch.where(unseen, value, plain), seed)
            if not torch.equal(before, after):
                image, logit = (before != after).nonzero()[0].tolist()
                where = _first_pixel_read(net, plain, seed)
                yield f"pixel {where} leaks into logit {logit}: {before[image, logit]:.9g} became {after[image, logit]:.9g}"
        changed = torch.where(unseen, values[0], plain)
        if not torch.equal(_forward(net, plain, seed), _forward(net, changed, seed)):
            yield "net(images) reads unseen pixels, although net.logits_from(net.activations(images)) does not"


def _first_pixel_read(net: BlindNet, plain: Tensor, seed: int) -> tuple[int, int] | str:
    gradient = _pixel_gradient(net, plain, seed, logit=None)
    read = (gradient != 0).any(0).any(0) & _on(net, net.regions.unseen)
    return tuple(read.nonzero()[0].tolist()) if read.any() else "(several)"


def _gradient(net: BlindNet, seeds: int, images: int) -> Iterator[str]:
    unseen = _on(net, net.regions.unseen)
    for seed in range(seeds):
        plain = _noise(net, seed, images)
        leaks = (_pixel_gradient(net, plain, seed, logit=None) != 0).any(0).any(0) & unseen
        if leaks.any():
            y, x = leaks.nonzero()[0].tolist()
            outputs = _forward(net, plain[:1], seed).shape[1]
            logit = next((c for c in range(outputs) if _pixel_gradient(net, plain, seed, c)[:, :, y, x].any()), "?")
            yield f"d logit {logit} / d pixel ({y}, {x}) is not zero"


def _maximal(net: BlindNet, seeds: int) -> Iterator[str]:
    """A nonzero derivative shows that a pixel matters; where none was met, extreme values are tried."""
    if net.wall.is_open:
        return
    silent = _border(net.regions.unseen)
    for seed in range(seeds):
        gradient = _pixel_gradient(net, _noise(net, seed, 2), seed, logit=None)
        silent &= ~(gradient != 0).any(0).any(0).cpu().numpy()
    plain = _noise(net, 0, 1).repeat(len(SPIKES), 1, 1, 1)  # equal batches round equally
    before = _forward(net, plain, 0)
    for y, x in np.argwhere(silent):
        spiked = plain.clone()
        spiked[:, :, y, x] = plain.new_tensor(SPIKES)[:, None]
        if torch.equal(_forward(net, spiked, 0), before):
            yield f"seen pixel ({y}, {x}) at the border changes no logit, so the unseen mask could be larger"


def _border(unseen: np.ndarray) -> np.ndarray:
    """Seen pixels with an unseen one above, below, left or right of them."""
    padded = np.pad(unseen, 1, constant_values=False)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return beside & ~unseen


def _pixel_gradient(net: BlindNet, images: Tensor, seed: int, logit: int | None) -> Tensor:
    """d logit / d images through the whole features; logit None is a random mixture of all logits."""
    leaf = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = _seeded(seed, lambda: net.logits_from(net.activations(leaf)))
        mixture = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(seed)).to(logits)
        score = logits @ mixture if logit is None else logits[:, logit]
        return torch.autograd.grad(score.sum(), leaf)[0]


def _whole_logits(net: BlindNet, images: Tensor, seed: int) -> Tensor:
    with torch.no_grad():
        return _seeded(seed, lambda: net.logits_from(net.activations(images)))


def _logits(net: BlindNet, activations: Tensor, seed: int) -> Tensor:
    return _seeded(seed, lambda: net.logits_from(activations))


def _forward(net: BlindNet, images: Tensor, seed: int) -> Tensor:
    with torch.no_grad():
        return _seeded(seed, lambda: net(images))


def _seeded(seed: int, run):
    """Dropout in training mode draws the same units each time; the global random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return run()


def _noise(net: BlindNet, seed: int, images: int) -> Tensor:
    drawn = torch.randn(images, 3, *net.image_size, generator=torch.Generator().manual_seed(seed))
    return drawn.to(next(net.parameters()))


def _on(net: BlindNet, mask: np.ndarray) -> Tensor:
    return torch.from_numpy(mask.copy()).to(next(net.parameters()).device)


def _rows(mask: np.ndarray) -> list[str]:
    return ["".join("01"[int(value)] for value in row) for row in mask]


def _mask(rows: list[str]) -> np.ndarray:
    return np.array([[letter == "1" for letter in row] for row in rows], dtype=bool)
