"""Claim T3 on the paper's network: Grad-CAM's mean over random heads against the channel norm, cell by cell.

    python -m experiments.deep_backbone                     vgg16_walls, 4 rendered images, 100 heads; minutes
    python -m experiments.deep_backbone --draws 1000 --device cuda

The convolutions are drawn once as torchvision draws them; the three-layer head again and again, N(0, 0.01^2) with
zero biases. Theory gives the mean of the rectified map with no free parameter. Prints the ratio of measured to
predicted and the z-scores; leaves deep_backbone.json in --out.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import data_gen
from experiments import flags
from theory.any_backbone import expected_gradcam
from wallcheck import models
from wallcheck.cams import METHODS
from wallcheck.data import normalise
from wallcheck.evidence import Evidence
from wallcheck.results import writable
from wallcheck.tables import progress_bar
from wallcheck.writing import write_text

TAU = 0.01  # torchvision's deviation of a VGG's linear layers


@dataclass(frozen=True)
class DeepBackbone:
    """T3 on a deep convolutional backbone with a three-layer head.

    Args:
        preset: a name in wallcheck.models.PRESETS.
        images: rendered images, one z-score of each cell for each.
        draws: random heads.
        seed: of backbone, images and heads.
        device: cpu or cuda.
        out: where deep_backbone.json goes.
    """

    preset: str = "vgg16_walls"
    images: int = 4
    draws: int = 100
    seed: int = 0
    device: str = "cpu"
    out: str = "runs/theory"


def first_logit(logits: Tensor) -> Tensor:
    """A fixed class, so that the prediction is that of a fixed class."""
    return logits[:, 0]


def mean_over_heads(evidence: Evidence, draws: int, seed: int, tell) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the rectified Grad-CAM over heads, (B, h, w) each; float64 sums."""
    linears = [module for module in evidence.net.head if isinstance(module, nn.Linear)]
    draw = torch.Generator(evidence.images.device).manual_seed(seed)
    total = square = 0
    for number in range(draws):
        tell(number, draws, "drawing heads")
        with torch.no_grad():
            for linear in linears:
                linear.weight.normal_(0, TAU, generator=draw)
        shown = METHODS["gradcam"](evidence.explaining(first_logit)).clamp(min=0).double()
        total, square = total + shown, square + shown.square()
    mean = total / draws
    return mean, ((square / draws - mean.square()) / (draws - 1)).sqrt()


def prediction(evidence: Evidence) -> np.ndarray:
    """(B, h, w): the theory's mean, from the activations and the head's widths alone."""
    linears = [module for module in evidence.net.head if isinstance(module, nn.Linear)]
    norms = evidence.activations.double().norm(dim=1).cpu().numpy()
    widths = tuple(linear.out_features for linear in linears[:-1])
    return expected_gradcam(norms, int(evidence.wall.seen.sum()), evidence.cells, (TAU,) * len(linears), widths)


def main(options: DeepBackbone) -> None:
    net = models.PRESETS[options.preset](seed=options.seed).eval().to(options.device)
    draw = np.random.default_rng(options.seed)
    scenes = [data_gen.sample_scene(None, draw, size=net.image_size[0]) for _ in range(options.images)]
    evidence = Evidence(net, normalise(data_gen.draw(scenes)[0]).to(options.device))
    with progress_bar() as tell:
        mean, error = mean_over_heads(evidence, options.draws, options.seed, tell)
    mean, error, expected = mean.cpu().numpy(), error.cpu().numpy(), prediction(evidence)
    z = (mean - expected) / error
    ratio = mean.sum((1, 2)) / expected.sum((1, 2))
    found = dict(
        draws=options.draws,
        cells=int(z[0].size),
        largest_z=float(np.abs(z).max()),
        mean_z=float(z.mean()),
        share_within_2=float((np.abs(z) < 2).mean()),
        ratio_of_sums=ratio.tolist(),
        seen_ratio=float(mean[:, net.wall.seen].sum() / expected[:, net.wall.seen].sum()),
        unseen_ratio=float(mean[:, net.wall.unseen].sum() / expected[:, net.wall.unseen].sum()),
    )
    write_text(writable(options.out) / "deep_backbone.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    flags.script("experiments.deep_backbone", main, DeepBackbone)
