"""A method held to what any saliency method can promise, in its own test suite; what the pytest plugin's fixture `wall` is.

    from wallcheck.testing import parametrize_with_checks

    @parametrize_with_checks([my_cam, GradCAM], expected_failures={"GradCAM": {"zero_on_unseen": "weights are averaged over the map"}})
    def test_blind(explain, check):
        check(explain)

What explains may be anything that `wallcheck.leakage` takes.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wallcheck import assets, models
from wallcheck.adapters import LeftBehind, foreign
from wallcheck.cams import METHODS, Method
from wallcheck.data import ImageSet, PhotoFolder, normalise, to_display
from wallcheck.evidence import Evidence
from wallcheck.guarding import maps_of
from wallcheck.keeping import UncleanHands, alone
from wallcheck.models import BlindNet
from wallcheck.plots import Examples, main_figure
from wallcheck.reading import Reading, leakage
from wallcheck.registry import Registry
from wallcheck.results import file_name
from wallcheck.study import images_for
from wallcheck.writing import beside

CLOSE = 1e-4  # of a map's largest value: batches of two sizes agree to 5e-7 on our own methods
FEW = 4  # images that the checks run on, but for `zero_on_unseen`, which takes all
NET, IMAGES = "assets:plain", "assets:stack_mix"


def net_named(text: str) -> BlindNet:
    """assets:plain and its like; a file that wallcheck.models.save wrote; package.module:function, which gives a BlindNet.

    Raises ValueError for a model without a wall, with what to do; LookupError and OSError as what opens it does.
    """
    shipped = assets.named(text)
    if shipped is not None:
        return assets.net(*shipped)
    if not models.is_name(text):
        return models.load(text)
    found = models.opened(text)
    if not isinstance(found, BlindNet):
        raise ValueError(
            f"{text} has no wall; give a function that returns wallcheck.blind(model, image_size), or a file that "
            f"wallcheck.models.save wrote of it"
        )
    return found


@dataclass(frozen=True, eq=False, repr=False)
class Wall:
    """A blind net and the images that methods are asked about; what the fixture `wall` is.

    net: of `net_named`, or a BlindNet; images: a folder or set (`wallcheck.study.images_for`), or (B, 3, H, W). seed: of every draw
    by chance. pictures: the folder where a failure is drawn. name: of the net, in what is told.
    """

    net: BlindNet
    images: ImageSet | PhotoFolder | Tensor
    seed: int = 0
    pictures: Path = Path("wallcheck-failures")
    name: str = "net"

    def __repr__(self) -> str:
        unseen = int(self.net.regions.unseen.sum())
        return f"Wall({self.name}: {unseen} of {self.net.regions.unseen.size} pixels unseen, {len(self.pixels)} images)"

    @classmethod
    def opened(cls, net: str = NET, images: str = IMAGES, seed: int = 0, pictures: str | Path = pictures) -> "Wall":
        """By names, as the pytest options --wall-net, --wall-images and --wall-seed give them."""
        found = net_named(net)
        return cls(found, images_for(found, images), seed, Path(pictures), net)

    @cached_property
    def pixels(self) -> Tensor:
        """(B, 3, H, W), normalised."""
        return self.images if isinstance(self.images, Tensor) else self.images.images()

    @cached_property
    def _asked(self) -> list[tuple[Reading, object]]:
        return []

    def leakage(self, explain: object, **options: Any) -> Reading:
        """`wallcheck.leakage` of a method here; compare it with a number: assert wall.leakage(my_cam) <= 0.01."""
        options = {"seed": self.seed, "net_name": self.name, **options}
        reading = leakage(explain, self.net, self.pixels, **options)
        self._asked.append((reading, explain))
        return reading

    def method(self, explain: object) -> Method:
        """What explains, as a Method on this net."""
        if isinstance(explain, Method):
            return explain
        if isinstance(explain, str) and explain in METHODS:
            return METHODS[explain]
        return foreign(explain, self.net, self.pixels)

    def maps(self, explain: object, images: Tensor) -> Tensor:
        """The method's maps of images, of the predicted classes; one by one where it takes no more."""
        method, evidence = self.method(explain), Evidence(self.net, images, seed=self.seed)
        try:
            return maps_of(method, evidence)
        except UncleanHands:
            raise
        except Exception:  # whatever a stranger's code raises; told of one image, if it is raised there too
            if len(images) == 1:
                raise
            return torch.cat([maps_of(method, evidence.part(slice(n, n + 1))) for n in range(len(images))])

    def picture(self, reading: Reading) -> Path:
        """Draw the worst image of a reading and its map; the file."""
        explain = next(explain for asked, explain in self._asked if asked is reading)
        number, name = reading.worst or 0, reading.method  # where nothing leaks, as of empty maps, the first
        image = self.pixels[number : number + 1]
        maps, evidence = self.maps(explain, image), Evidence(self.net, image, seed=self.seed)
        kept = Examples(
            pixels=(255 * to_display(image)).round().astype(np.uint8),
            targets=evidence.targets.cpu().numpy(),
            unseen_cells=self.net.wall.unseen,
            unseen_pixels=self.net.regions.unseen,
            halo=self.net.regions.halo,
            maps={name: maps.detach().cpu().numpy()},
            classes=tuple((self.net.description or {}).get("classes", ())),
        )
        path = self.pictures / f"{file_name(name)}-{number}.png"
        with beside(path) as partial_path:
            main_figure(kept, 0, [name]).savefig(partial_path, format="png", dpi=200)
        return path


# -- checks ---------------------------------------------------------------------------------------

Check = Callable[[object, Wall], None]
CHECKS: Registry[Check] = Registry("check")


def _check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


@_check
def zero_on_unseen(explain: object, wall: Wall) -> None:
    """What the net cannot use gets no positive attribution, on any image; an empty map is no answer."""
    reading = wall.leakage(explain)
    if not reading.value == 0:
        raise AssertionError(reading.describe())


@_check
def batch_equals_singles(explain: object, wall: Wall) -> None:
    """The map of an image does not depend on the images beside it."""
    images = wall.pixels[:FEW]
    together = wall.maps(explain, images)
    for number in range(len(images)):
        alone = wall.maps(explain, images[number : number + 1])[0]
        largest = float(alone.abs().max())
        missed = float((together[number] - alone).abs().max())
        if missed > CLOSE * largest:
            raise AssertionError(
                f"image {number} has another map in a batch of {len(images)} than alone: they differ by {missed:.3g}, where the map's "
                f"largest value is {largest:.3g}; is something taken over the whole batch?"
            )


@_check
def deterministic(explain: object, wall: Wall) -> None:
    """Asked twice from one random state, it answers twice the same."""
    one, two = (wall.maps(explain, wall.pixels[:FEW]) for _ in range(2))
    if not torch.equal(one, two):
        number = int((one != two).flatten(1).any(1).nonzero()[0])
        raise AssertionError(
            f"image {number} has another map when it is asked for again from the same random state; draw from torch's, numpy's or "
            f"random's generator, which are seeded before each call"
        )


@_check
def model_unchanged(explain: object, wall: Wall) -> None:
    """Weights, buffers, layers and images are as they were."""
    try:
        with alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftBehind)
            wall.maps(explain, wall.pixels[:FEW])
    except UncleanHands as error:
        raise AssertionError(str(error)) from None


@_check
def nothing_left_behind(explain: object, wall: Wall) -> None:
    """No hook, no other mode, no gradient, no switch of torch's outlives the call."""
    with alone(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LeftBehind)
        wall.maps(explain, wall.pixels[:FEW])
    if left := [str(one.message) for one in told if issubclass(one.category, LeftBehind)]:
        raise AssertionError(left[0])


@_check
def finite_on_degenerate_input(explain: object, wall: Wall) -> None:
    """A black, a grey and a white image have maps without NaN or infinity."""
    _, _, height, width = wall.pixels.shape
    for name, value in (("black", 0), ("grey", 128), ("white", 255)):
        image = normalise(np.full((1, height, width, 3), value, np.uint8))
        found = wall.maps(explain, image)
        if not torch.isfinite(found).all():
            raise AssertionError(
                f"the map of a {name} image holds NaN or infinity; say what happens where a sum or a maximum that is divided by is 0"
            )


Expected = Mapping[str, Mapping[str, str]] | Callable[[object], Mapping[str, str]]


def parametrize_with_checks(
    explainers: Sequence[object], *, expected_failures: Expected | None = None, wall: Wall | None = None
):
    """A pytest decorator: the test gets each explainer with each check of CHECKS, as arguments `explain` and `check`.

    expected_failures: name of an explainer -> {check: reason}, or a function explainer -> {check: reason}. Such a check is an expected
    failure, and a failure once it passes: what is said of a method stays true. wall: where they are asked; assets:plain on
    assets:stack_mix if not given. Raises LookupError for a check or an explainer that there is not.
    """
    import pytest

    names = [called(explain) for explain in explainers]
    if isinstance(expected_failures, Mapping) and (unknown := set(expected_failures) - set(names)):
        raise LookupError(
            f"failures of {', '.join(sorted(unknown))} are expected, but there are only {', '.join(names)}"
        )
    opened: list[Wall] = [] if wall is None else [wall]

    def asked(explain: object, check: Check) -> None:
        if not opened:
            opened.append(Wall.opened())
        check(explain, opened[0])

    cases = []
    for name, explain in zip(names, explainers, strict=True):
        reasons = expected_failures(explain) if callable(expected_failures) else (expected_failures or {}).get(name, {})
        for failing in reasons:
            CHECKS[failing]  # an unknown one is answered with the nearest
        for title, check in CHECKS.items():
            marks = [pytest.mark.xfail(reason=reasons[title], strict=True)] if title in reasons else []
            cases.append(pytest.param(explain, partial(asked, check=check), id=f"{name}-{title}", marks=marks))
    return pytest.mark.parametrize(("explain", "check"), cases)


def called(explain: object) -> str:
    """What an explainer is called here: its name if it is a text, a method's, a function's or a class's.

    >>> called("gradcam"), called(called), called(partial(called, 1))
    ('gradcam', 'called', 'called')
    """
    if isinstance(explain, str):
        return explain
    inner = explain.func if isinstance(explain, partial) else explain
    return getattr(inner, "name", None) or getattr(inner, "__name__", None) or type(inner).__name__
