"""Peak memory of one piece of work in a process of its own; `experiments.benchmark` calls it.

    python -m experiments.benchmark.peak '{"net": "vgg16_walls", "what": "cheap suite", "batch": 8}'

what: "cheap suite", the name of a method, or that of an adapter's explainer ("pytorch_grad_cam.GradCAM"). Prints JSON.
"""

import json
import sys
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from experiments.benchmark.duels import Setting, cheap_suite, settled_evidence, together
from experiments.benchmark.timing import peak_mb
from experiments.disagreements.cases import drawn
from wallcheck import adapters, models
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence


class Brief(Evidence):
    """As much held at once in a fraction of the time: of the masked images only the first few go through the features,
    the others are given copies of what came out."""

    RUN = 4

    @cached_property
    def _seen_cells(self) -> Callable[[Tensor], tuple[Tensor, ...]]:
        features, out = super()._seen_cells, []

        def cells(parts: Tensor) -> tuple[Tensor, ...]:
            if len(out) < self.RUN or len(parts) > len(out[-1][0]):
                out.append(features(parts))
            return tuple(each[: len(parts)].clone() for each in out[-1])

        return cells


def work_of(what: str, setting: Setting, brief: bool = False) -> Callable[[], object]:
    """brief: see `Brief`."""
    library, _, explainer = what.partition(".")
    if explainer:
        peer, ready = adapters.LIBRARIES[library](explainer), settled_evidence(setting, setting.images)
        return lambda: peer(ready)

    def ours() -> object:
        kind = Brief if brief else Evidence
        evidence = kind(setting.net, setting.images, budget_mb=setting.budget_mb, precision=setting.precision)
        return together(cheap_suite(setting.net) if what == "cheap suite" else [METHODS[what]], evidence)

    return ours


def images_of(net: models.BlindNet, count: int, seed: int = 0) -> torch.Tensor:
    """Noise, on the net's device."""
    device = next(net.parameters()).device
    return torch.randn(count, 3, *net.image_size, generator=torch.Generator().manual_seed(seed)).to(device)


def peak(
    net: str, what: str, batch: int, budget_mb: float | None = None, threads: int = 0, brief: bool = False
) -> float:
    """MiB above the loaded model."""
    if threads:
        torch.set_num_threads(threads)
    loaded = drawn(models.PRESETS[net]())
    setting = Setting(loaded, images_of(loaded, batch), budget_mb=budget_mb)
    return peak_mb(work_of(what, setting, brief), torch.device("cpu"))


if __name__ == "__main__":
    print(json.dumps({"mb": peak(**json.loads(sys.argv[1]))}))
