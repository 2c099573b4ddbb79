"""What an audit is asked for: nets, image sets, methods, metrics; refused before any work is done where it does not fit together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wallcheck import assets
from wallcheck.assets import PREFIX
from wallcheck.auditing import applicable, questions
from wallcheck.cams import Method
from wallcheck.checking import answered, checked_settings, chosen_metrics, require_wall
from wallcheck.data import ImageSet, PhotoFolder, class_names, open_images, sized
from wallcheck.models import BlindNet, as_blind


@dataclass(frozen=True)
class Study:
    """What is audited, and how; all of it goes into the manifest.

    nets: name -> net. contrasts: name of a net without a wall -> name of its walled twin.
    image_sets: each with a name of its own. methods: as `wallcheck.audit` takes them; None is every method that applies; one that
    is defined on some of the nets only is left out on the others. metrics: None is all.
    count: images of each set, from the first on; None is all. targets: "predicted", or "label" for
    the sets' labels. examples: images of each set whose maps are kept for the figures. only: name of a net -> names of the image
    sets it is audited on; a net that is not named is audited on all. budget_mb, precision: see `wallcheck.evidence.Evidence`.

    Methods, metrics, count, examples and only are how much of the study is asked for: a folder takes more of them later. All
    else is the study itself, and another folder's. Batch size and memory change rows in the last bits at most.
    """

    nets: dict[str, BlindNet]
    image_sets: Sequence[ImageSet | PhotoFolder]
    methods: Sequence[object] | None = None
    contrasts: dict[str, str] = field(default_factory=dict)
    count: int | None = 100
    targets: str = "predicted"
    seed: int = 0
    batch_size: int = 20
    budget_mb: float | None = None
    examples: int = 8
    metrics: Sequence[str] | None = None
    only: dict[str, Sequence[str]] = field(default_factory=dict)
    precision: str = "exact"
    _found: dict[int, list[Method]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "nets", {name: as_blind(net) for name, net in self.nets.items()})
        checked_settings(self.seed, self.batch_size, self.budget_mb, self.precision)
        chosen_metrics(self.metrics)
        if self.targets not in ("predicted", "label"):
            raise ValueError(f"targets are {self.targets!r}; choose 'predicted' or 'label'")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; audit at least 1 image of each set, or None for all")
        names = [images.name for images in self.image_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two image sets share a name in {names}; rename one folder")
        for name, wanted in self.only.items():
            if name not in self.nets or not set(wanted) <= set(names):
                raise ValueError(
                    f"only asks for {name} on {list(wanted)}; there are nets {list(self.nets)} and image sets {names}"
                )
        for images in self.image_sets:
            if self.targets == "label" and (why := images.unlabelled(self.size(images))):
                raise ValueError(f"{images.name} has no labels: {why}")
        self._check_methods()

    def _check_methods(self) -> None:
        """Raise ValueError, before any work is done, for a method that no net has and for a net that has no method."""
        for name, net in self.nets.items():
            if len(self.nets) == 1:
                answered(net, chosen_metrics(self.metrics))
            for method in self._applicable(net):
                if len(self.nets) == 1 and (reason := method.refuses(net)):
                    raise ValueError(f"{method.name} is not defined on {name}: {reason}; leave it out")
            if not self.methods_for(name):
                raise ValueError(f"none of the methods is defined on {name}; wallcheck methods lists others")

    def blind(self, name: str) -> BlindNet:
        """The net whose unseen region is used for the net of this name."""
        return require_wall(self.nets[name], self.nets.get(self.contrasts.get(name, "")))

    def methods_for(self, name: str) -> list[Method]:
        """The methods of the study that are defined on the net of this name."""
        net = self.nets[name]
        return [method for method in self._applicable(net) if not method.refuses(net)]

    def _applicable(self, net: BlindNet) -> list[Method]:
        """Found once for each net: explainers from elsewhere are asked for maps to find out what they give."""
        if id(net) not in self._found:
            self._found[id(net)] = applicable(net, self.methods, lambda: self.image_sets[0].images(slice(0, 2)))
        return self._found[id(net)]

    def keys(self, name: str) -> frozenset:
        """(method, view, on, metric): what every image has on the net of this name."""
        metrics, net = chosen_metrics(self.metrics), self.nets[name]
        return frozenset(
            (method.name, *where) for method in self.methods_for(name) for where in questions(net, method, metrics)
        )

    def sets_for(self, name: str) -> list[ImageSet | PhotoFolder]:
        """The image sets that the net of this name is audited on."""
        return [images for images in self.image_sets if images.name in self.only.get(name, (images.name,))]

    def size(self, images: ImageSet | PhotoFolder) -> int:
        return len(images) if self.count is None else min(self.count, len(images))

    def labels(self, images: ImageSet | PhotoFolder) -> np.ndarray | None:
        """The classes explained, by image; None for the predicted ones."""
        return images.labels if self.targets == "label" else None

    @property
    def config(self) -> dict:
        """What is asked for; a folder keeps the union of all that was."""
        return dict(
            weights={name: net.graph.fingerprint for name, net in self.nets.items()},
            methods={name: [method.name for method in self.methods_for(name)] for name in self.nets},
            image_sets={name: [images.name for images in self.sets_for(name)] for name in self.nets},
            foreign={m.name: m.digest for name in self.nets for m in self.methods_for(name) if m.digest},
            metrics=[metric.name for metric in chosen_metrics(self.metrics)],
            contrasts=self.contrasts,
            count=self.count,
            targets=self.targets,
            seed=self.seed,
            examples=self.examples,
            precision=self.precision,
        )

    @property
    def settings(self) -> dict:
        """What rows depend on beside nets and images. Only another precision than the usual one is named: folders from before
        there was a choice are studies in full float32."""
        usual = dict(targets=self.targets, seed=self.seed)
        return usual if self.precision == "exact" else usual | dict(precision=self.precision)


def images_for(
    net: BlindNet, folder: str | Path, classes: str | Path | None = None, targets: str = "predicted"
) -> ImageSet | PhotoFolder:
    """The images in a folder at the net's size, labelled by the net's classes; or those of a set that comes with wallcheck,
    "assets:stack_mix".

    Their names are those given (see `wallcheck.data.class_names`), else those that training left in the net's
    description. Where neither is known and labels are asked for, the folders' names have to do (see PhotoFolder).
    """
    shipped = str(folder).removeprefix(PREFIX)
    if net.image_size[0] != net.image_size[1]:
        raise ValueError(
            f"photographs are read as squares, this net takes {net.image_size}; pass tensors of that size to wallcheck.audit"
        )
    names = class_names(classes) if classes else tuple((net.description or {}).get("classes", ()))
    # The graph is asked only where its classes count: the audit makes it anew, and two take twice the time.
    if classes and len(names) != (logits := net.graph.classes):
        raise ValueError(
            f"{classes} names {len(names)} classes, the net has {logits}; give what the net was trained on"
        )
    if str(folder) != shipped:
        return sized(assets.images(shipped, names), net.image_size[0])
    return open_images(folder, net.image_size[0], names or (net.graph.classes if targets == "label" else ()))
