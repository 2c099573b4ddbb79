"""Peak memory of one piece of work in a process of its own; `experiments.benchmark` calls it.

    python -m experiments.peak '{"net": "vgg16_walls", "what": "cheap suite", "batch": 8}'

what: "cheap suite", the name of a method, or that of an adapter's explainer ("pytorch_grad_cam.GradCAM"). Prints JSON.
"""

import json
import sys
from collections.abc import Callable

import torch

from experiments.duels import Setting, cheap_suite, settled_evidence, together
from experiments.settling import drawn
from experiments.timing import peak_mb
from wallcheck import adapters, models
from wallcheck.cams import METHODS


def work_of(what: str, setting: Setting, one_alive: bool = False) -> Callable[[], object]:
    """one_alive: all images but the first are dead at the target layer, so that their masks are one mask and a
    rescoring method is done in an eighth of the time, with as much held at once."""
    library, _, explainer = what.partition(".")
    if explainer:
        peer, ready = adapters.LIBRARIES[library](explainer), settled_evidence(setting, setting.images)
        return lambda: peer(ready)

    def ours() -> object:
        evidence = setting.evidence()
        if one_alive:
            evidence.activations[1:] = 0
        return together(cheap_suite(setting.net) if what == "cheap suite" else [METHODS[what]], evidence)

    return ours


def images_of(net: models.BlindNet, count: int, seed: int = 0) -> torch.Tensor:
    """Noise, on the net's device."""
    device = next(net.parameters()).device
    return torch.randn(count, 3, *net.image_size, generator=torch.Generator().manual_seed(seed)).to(device)


def peak(net: str, what: str, batch: int, budget_mb: float = 256, threads: int = 0, one_alive: bool = False) -> float:
    """MiB above the loaded model."""
    if threads:
        torch.set_num_threads(threads)
    loaded = drawn(models.PRESETS[net]())
    setting = Setting(loaded, images_of(loaded, batch), budget_mb=budget_mb)
    return peak_mb(work_of(what, setting, one_alive), torch.device("cpu"))


if __name__ == "__main__":
    print(json.dumps({"mb": peak(**json.loads(sys.argv[1]))}))
