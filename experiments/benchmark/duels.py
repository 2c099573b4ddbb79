"""What the benchmark measures: wallcheck's methods and other libraries' on the same net and images."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from experiments.benchmark.timing import CLOCKS, Ratio, alternate, ratio, seconds_of
from experiments.disagreements.comparisons import COMPARISONS, Comparison
from experiments.disagreements.settling import gap
from wallcheck import adapters
from wallcheck.adapters._stand_in import stand_in
from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence
from wallcheck.graph import plainly
from wallcheck.keeping import undisturbed
from wallcheck.models import BlindNet

T = TypeVar("T")

FORWARD = "one forward to the target layer"
CHEAP = ("1F", "1F+1b")  # costs of the methods that one forward and one backward through the head serve


@dataclass(frozen=True)
class Setting:
    """The net and images of all measurements, and how long to measure.

    rounds: at most so many; seconds: of one comparison, beyond which no further round is begun.
    budget_mb: of what is computed at once; None is `Evidence`'s own choice. precision: of ours and theirs alike, see `alike`.
    clock: a key of `CLOCKS`.
    """

    net: BlindNet
    images: Tensor
    rounds: int = 5
    seconds: float = 60
    budget_mb: float | None = None
    full: bool = False
    precision: str = "exact"
    clock: str = "wall"

    @property
    def device(self) -> torch.device:
        return self.images.device

    def evidence(self, images: Tensor | None = None) -> Evidence:
        """Fresh evidence: nothing computed yet."""
        images = self.images if images is None else images
        return Evidence(self.net, images, budget_mb=self.budget_mb, precision=self.precision)

    def alike(self, work: Callable[[], T]) -> Callable[[], T]:
        """A work that is not ours, with float32 multiplied as it is in ours."""

        def done() -> T:
            with plainly(self.device, self.precision):
                return work()

        return done

    def images_for(self, method: Method) -> Tensor:
        """One image for methods that send many of each through the features, unless the measurement is full; else all."""
        many = "K" in method.cost or many_forwards(method) is not None
        return self.images[:1] if many and not self.full else self.images

    def time(self, *works: Callable[[], object]) -> list[list[float]]:
        """Seconds of each work in each round. A library that puts weights back where they were makes the net's graph stale, and
        what ours would take to make it anew is not the method's."""
        return alternate(
            works, self.rounds, self.seconds, self.device, CLOCKS[self.clock], ready=lambda: self.net.graph
        )


@dataclass(frozen=True)
class Duel:
    """ours against theirs: seconds per image in each round, and the largest difference of the maps over their peak. error: where
    precision is not "exact", how far our map is from the exact one, over its peak."""

    name: str
    against: str
    images: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    difference: float | None = None
    note: str = ""
    error: float | None = None

    @property
    def speedup(self) -> Ratio:
        return ratio(self.theirs, self.ours)

    @property
    def share(self) -> Ratio:
        """Our time as a multiple of the other's."""
        return ratio(self.ours, self.theirs)

    @property
    def seconds(self) -> tuple[float, float]:
        """Medians per image, ours and theirs."""
        return median(self.ours), median(self.theirs)


def fits(method: Method, net: BlindNet) -> bool:
    return method.cost in CHEAP and not method.refuses(net)


def cheap_suite(net: BlindNet) -> list[Method]:
    """Every method that needs one forward and at most one backward through the head, and is defined on the net."""
    return [method for method in METHODS.values() if fits(method, net)]


def peers_of(methods: list[Method], library: str) -> dict[str, Method]:
    """name of ours -> the library's counterpart, where it has one."""
    found = {m.name: [p for p in adapters.counterparts(m.name) if p.name.startswith(f"{library}.")] for m in methods}
    return {name: peers[0] for name, peers in found.items() if peers}


def pairs(net: BlindNet) -> Iterator[Comparison]:
    """Each explainer of each library beside the nearest of our methods, where that is defined on the net."""
    met: set[tuple[str, str]] = set()
    for one in COMPARISONS:  # the nearest stand first
        sides = {(one.library, one.ours), (one.library, one.explainer)}
        if one.case in ("plain", "pooled head") and not sides & met and not METHODS[one.ours].refuses(net):
            met |= sides
            yield one


def settled_evidence(setting: Setting, images: Tensor) -> Evidence:
    """For peers, which look at net, images and targets only: nothing of ours is timed with them."""
    evidence = setting.evidence(images)
    _ = evidence.targets
    return evidence


def adapting(setting: Setting) -> Callable[[], None]:
    """What an adapter itself does: a stand-in for the net, and generators put back. It runs in every round, and what it takes
    is taken off the peer's time, see `without`."""

    def empty() -> None:
        with undisturbed(0):
            stand_in(setting.net)

    return setting.alike(empty)


def without(adapter: list[float], theirs: list[float], calls: int = 1) -> list[float]:
    """Seconds of each round less what the adapter takes in `calls` calls: the median of the same rounds, since what disturbs one of
    them could take more than all there is.

    >>> without([1.0, 9.0, 1.0], [3.0, 4.0, 5.0])
    [2.0, 3.0, 4.0]
    """
    return [max(t - calls * median(adapter), 1e-9) for t in theirs]


def duel(pair: Comparison, setting: Setting) -> Duel:
    """One method, forward included, against one library's; a peer that does not run, or would for too long, is told
    in the note."""
    ours = METHODS[pair.ours]
    images = setting.images_for(ours)
    theirs_on, about = settled_evidence(setting, images), (ours.name, f"{pair.library}.{pair.explainer}", len(images))
    if (expected := least_seconds(ours, theirs_on)) > setting.seconds and not setting.full:
        return Duel(*about, note=f"left out: {expected:.0f} s a call, see --full")
    try:
        difference = gap(*setting.alike(lambda: pair.maps(theirs_on))())
    except Exception as error:  # another library's, of any kind
        return Duel(*about, note=f"does not run: {type(error).__name__}")
    works = lambda: ours(setting.evidence(images)), setting.alike(lambda: pair.theirs_on(theirs_on))
    own, its, adapter = setting.time(*works, adapting(setting))
    error = None if setting.precision == "exact" else error_of(ours, setting, images)
    per_image = [[t / len(images) for t in times] for times in (own, without(adapter, its))]
    return Duel(*about, *per_image, difference, note="" if len(own) > 1 else "one round", error=error)


def error_of(method: Method, setting: Setting, images: Tensor) -> float:
    """How far the map is from the one in full float32, of the same classes, as a share of its peak."""
    exact = replace(setting, precision="exact").evidence(images)
    fast = Evidence(setting.net, images, exact.targets, budget_mb=setting.budget_mb, precision=setting.precision)
    return gap(method(fast), method(exact))


def many_forwards(method: Method) -> tuple[int, bool] | None:
    """How many forwards of each image a costly method takes, and whether for every channel; None for any other method.

    >>> many_forwards(METHODS["sscam"]), many_forwards(METHODS["sess_gradcam"]), many_forwards(METHODS["scorecam"])
    ((10, True), (123, False), None)
    """
    found = re.search(r"(\d+)K F", method.cost) or re.search(r"(\d{3,})\(?F", method.cost)
    return None if found is None else (int(found[1]), "K F" in found[0])


def least_seconds(method: Method, evidence: Evidence) -> float:
    """What the images take that a method with `many_forwards` sends through the features, at the pace of four; 0 for other methods."""
    many = many_forwards(method)
    if many is None:
        return 0.0
    times, each_channel = many
    each = times * (evidence.activations.shape[1] if each_channel else 1)
    masked = [evidence.images[0]] * 4
    spent = seconds_of(
        lambda: evidence.rescore_images(lambda piece: torch.stack(masked[piece]), 4), evidence.images.device
    )
    return each * len(evidence.images) * spent / 4


def suite_duels(setting: Setting) -> list[Duel]:
    """The cheap suite against one forward to the target layer, and against pytorch-grad-cam called for the same methods."""
    count, methods = len(setting.images), cheap_suite(setting.net)
    peers = peers_of(methods, "pytorch_grad_cam")
    shared = [METHODS[name] for name in peers]
    theirs_on = settled_evidence(setting, setting.images)

    def forward() -> None:
        with torch.no_grad():
            setting.net.activations(setting.images)

    works = (
        setting.alike(forward),
        lambda: together(methods, setting.evidence()),
        lambda: together(shared, setting.evidence()),
        setting.alike(lambda: together(list(peers.values()), theirs_on)),
        adapting(setting),
    )
    *ours, theirs, adapter = setting.time(*works)
    times = [*ours, without(adapter, theirs, len(peers))]
    once, every, same, theirs = ([t / count for t in each] for each in times)
    return [
        Duel(f"cheap suite, {len(methods)} methods", FORWARD, count, every, once),
        Duel(f"the {len(shared)} that pytorch-grad-cam has", FORWARD, count, same, once),
        Duel(
            f"the {len(shared)} that pytorch-grad-cam has", "pytorch-grad-cam, one after another", count, same, theirs
        ),
        Duel(f"cheap suite, {len(methods)} methods", f"pytorch-grad-cam's {len(shared)}", count, every, theirs),
    ]


def together(methods: list[Method], evidence: Evidence) -> list[Tensor]:
    return [method(evidence) for method in methods]


def lift_duel(setting: Setting) -> list[Duel]:
    """LIFT-CAM's attribution, the layer being known, against two head passes and one backward through the head; nothing
    where it is not defined."""
    lift = METHODS["liftcam"]
    if lift.refuses(setting.net):
        return []
    known = settled_evidence(setting, setting.images)

    def asked() -> Evidence:
        """The same activations and targets, nothing else computed."""
        fresh = copy.copy(known)
        fresh.__dict__.pop("gradient", None)
        fresh._kept = {}
        return fresh

    def passes() -> None:
        evidence = asked()
        for _ in range(2):
            evidence.rescore(evidence.activations)
        _ = evidence.gradient

    own, its = setting.time(lambda: lift(asked()), passes)
    count = len(setting.images)
    about = "two head passes and one head-backward"
    return [Duel("liftcam, from the layer on", about, count, [t / count for t in own], [t / count for t in its])]
