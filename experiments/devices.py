"""Does every method give the same map on every device? The CPU against the device there is, and against other settings.

    python -m experiments.devices                    a GPU if there is one; else the CPU with other threads and other flags
    python -m experiments.devices --against threads coarse

One small net, trained as the studies' nets are, and images of STACK-MIX. The reference is the CPU with one thread. `threads` is the
CPU with all of its threads; `coarse` the CPU in a process that allows TF32 and bfloat16 products; `cuda` (`mps`) the device. For every
method the largest difference of its maps, as a share of the reference's peak; for an audit of the paper's methods the largest
difference between rows. Leaves devices.md, .png and .json in --docs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.small_nets import Recipe
from wallcheck import plots
from wallcheck.auditing import applicable, audit
from wallcheck.cams import METHODS, PAPER
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.results import KEY
from wallcheck.tables import progress_bar

NAME = "devices"
BOUND = 1e-4  # of the peak
FULL = dict(images=50, train_count=20_000, epochs=15)


@dataclass(frozen=True)
class DevicesRun(study.StudyRun):
    """Maps on one device against maps on another.

    Args:
        against: threads, coarse, cuda, mps; a GPU if there is one, else threads and coarse, if none is given.
        images: of STACK-MIX.
        train_count: training images.
        epochs: of the training.
    """

    against: list[str] = field(default_factory=list)
    images: int = 4
    train_count: int = 2000
    epochs: int = 6
    out: str = "runs/devices"


def main(given: DevicesRun) -> None:
    options = study.in_full(given, FULL)
    for name in options.against:
        if name not in SETTINGS:
            raise ValueError(f"{name!r} is no setting; choose from {', '.join(SETTINGS)}")
    out, manifest = study.claimed(options)
    recipe = Recipe(train_count=options.train_count, epochs=options.epochs)
    net = small_nets.trained(recipe, Path(options.nets)).cpu()
    images = small_nets.image_set("stack_mix", options.images, recipe, Path(options.nets)).images()
    with progress_bar() as tell:
        tables = [compared(net, images, name, tell) for name in options.against or there_are()]
    found = dict(maps=pd.concat([maps for maps, _ in tables]), rows=pd.concat([rows for _, rows in tables]))
    study.publish(NAME, options, manifest, plots.devices(found["maps"], BOUND), page(found, options), found)
    print(f"the page is {Path(options.docs) / (NAME + '.md')}; the run is in {out}")


def there_are() -> list[str]:
    """The device there is, or what can be asked of a CPU."""
    gpus = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
    return gpus or ["threads", "coarse"]


# -- settings -------------------------------------------------------------------------------------


@contextmanager
def threads(count: int) -> Iterator[torch.device]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield torch.device("cpu")
    finally:
        torch.set_num_threads(before)


@contextmanager
def coarse() -> Iterator[torch.device]:
    """A process that prefers speed to digits."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with threads(1) as device:
            yield device
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def on(kind: str) -> Iterator[torch.device]:
    """A device of this kind, in a process that prefers speed to digits."""
    with coarse():
        yield torch.device(kind)


SETTINGS: dict[str, Callable] = {
    "threads": lambda: threads(max(2, torch.get_num_threads())),
    "coarse": coarse,
    "cuda": lambda: on("cuda"),
    "mps": lambda: on("mps"),
}


# -- measuring ------------------------------------------------------------------------------------


def compared(
    net: BlindNet, images: Tensor, name: str, tell: Callable[[int, int, str], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(setting, method, apart) of every method, and (setting, metric, apart) of the rows of an audit."""
    methods = [method.name for method in applicable(net, None)]
    with threads(1):
        reference, rows = (
            _maps(net, images, methods, lambda done: tell(done, len(methods), "reference")),
            _rows(net, images),
        )
    with SETTINGS[name]() as device:
        moved, there = net.to(device), images.to(device)
        found = _maps(moved, there, methods, lambda done: tell(done, len(methods), name))
        other = _rows(moved, there)
        net.cpu()
    apart = [_apart(found[name], reference[name]) for name in methods]
    both = rows.merge(other, on=KEY, how="outer", suffixes=("", "_other"))
    both["apart"] = (both["value"] - both["value_other"]).abs()
    if both[["value", "value_other"]].isna().any(axis=1).ne(both[["value", "value_other"]].isna().all(axis=1)).any():
        raise ValueError(f"on {name} other rows are empty than on the CPU; the maps differ where one of them is 0")
    measured = both.groupby("metric", as_index=False)["apart"].max()
    return pd.DataFrame(dict(setting=name, method=methods, apart=apart)), measured.assign(setting=name)


def _apart(maps: Tensor, reference: Tensor) -> float:
    """Largest difference as a share of the peak; of an empty map 0 where the other is empty too, else infinite."""
    off, peak = float((maps - reference).abs().max()), float(reference.abs().max())
    return off / peak if peak else 0.0 if not off else float("inf")


def _maps(net: BlindNet, images: Tensor, methods: list[str], tell: Callable[[int], None]) -> dict[str, Tensor]:
    evidence, found = Evidence(net, images), {}
    for done, name in enumerate(methods):
        tell(done)
        found[name] = METHODS[name](evidence).cpu().double()
    return found


def _rows(net: BlindNet, images: Tensor) -> pd.DataFrame:
    return audit(net, images, list(PAPER))[[*KEY, "value"]]


# -- page -----------------------------------------------------------------------------------------


def page(found: dict[str, pd.DataFrame], options: DevicesRun) -> str:
    maps, rows = found["maps"], found["rows"]
    lines = ["| setting | methods | median | largest | above 1e-4 of the peak |", "| --- | --- | --- | --- | --- |"]
    for setting, part in maps.groupby("setting", sort=False):
        above = part[part["apart"] > BOUND].sort_values("apart", ascending=False)
        told = ", ".join(f"{row.method} {row.apart:.0e}" for row in above.itertuples()) or "none"
        lines.append(f"| {setting} | {len(part)} | {part['apart'].median():.0e} | {part['apart'].max():.0e} | {told} |")
    largest = ", ".join(f"{name} {part['apart'].max():.0e}" for name, part in rows.groupby("setting", sort=False))
    return "\n".join(
        [
            "# One answer on every device",
            "",
            f"{options.images} images of STACK-MIX, one trained net; made by `python -m experiments.devices`. Largest difference of each "
            "method's maps from the CPU's with one thread, as a share of the peak. Draws are made on the CPU whatever the device is, and "
            "products and convolutions run in full float32 whatever the process has allowed, so what is left is the order of sums.",
            "",
            *lines,
            "",
            f"Rows of an audit of the paper's methods, largest difference: {largest}.",
            "",
            "![Largest difference of each method](devices.png)",
            "",
        ]
    )


if __name__ == "__main__":
    flags.script("experiments.devices", main, DevicesRun)
