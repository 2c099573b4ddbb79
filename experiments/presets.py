"""What python -m experiments.reproduce can reproduce: each network with its images, its training and how much is audited."""

from dataclasses import dataclass, fields

import torch

SMALL = 1_000, 5  # images that a training passes over its epochs, and images audited: up to these a CPU will do


@dataclass(frozen=True)
class Preset:
    """A network and the study of it, by default.

    config: of the training. size, wall_row: of the images, in pixels; wall_row is the first below the wall. sets: of images,
    every one if none is named. wants_gpu: a CPU would take days.
    """

    config: str
    size: int
    wall_row: int
    sets: tuple[str, ...]
    wants_gpu: bool
    out: str
    train_count: int
    val_count: int
    count: int
    epochs: int


DEFAULTS = ("out", "train_count", "val_count", "count", "epochs")  # what a flag can change

PRESETS = {
    "vgg_small": Preset(
        config="experiments/configs/vgg_small.yaml",
        size=96,
        wall_row=48,
        sets=(),
        wants_gpu=False,
        out="runs/reproduce",
        train_count=10_000,
        val_count=1_000,
        count=100,
        epochs=6,
    ),
    "vgg16_walls": Preset(
        config="experiments/configs/vgg16_rendered.yaml",
        size=224,
        wall_row=170,  # row 4 of the cells reads up to pixel row 169
        sets=("train", "val", "stack_mix", "stack_gen"),
        wants_gpu=True,
        out="runs/vgg16_walls",
        train_count=16_000,
        val_count=1_000,
        count=100,
        epochs=8,  # of 250 steps
    ),
}


def preset_of(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r} can be reproduced; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def device_for(preset: Preset, accelerator: str, passed: int, count: int) -> str:
    """ "cpu" or "gpu". accelerator: what was asked for, "auto" for what the preset wants. passed: images that the training
    passes over all epochs; count: images audited.

    Raises ValueError where there is no GPU and what is asked for wants one.
    """
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ValueError(f"accelerator is {accelerator!r}; choose auto, cpu or gpu")
    if accelerator == "cpu" or (accelerator == "auto" and not preset.wants_gpu):
        return "cpu"
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return "gpu"
    if accelerator == "gpu":
        raise ValueError("a GPU was asked for by --accelerator gpu, and torch finds none here; leave the flag out")
    if passed <= SMALL[0] and count <= SMALL[1]:
        return "cpu"
    raise ValueError(
        f"this wants a GPU, and torch finds none here: {passed:,} training images of {preset.size} px and {count} audited of each "
        f"set would take a CPU days. To see the way in minutes: --train_count 64 --val_count 64 --epochs 1 --count 1; to insist: "
        f"--accelerator cpu"
    )


def defaults(preset: Preset) -> dict[str, object]:
    """The preset's defaults by the names of the flags."""
    return {field.name: getattr(preset, field.name) for field in fields(preset) if field.name in DEFAULTS}
