"""Everything on a device that is no CPU, where there is none: `make test-mock-gpu`.

    python -m tests.mock_gpu                          every method on three nets, then what is around the methods
    python -m tests.mock_gpu --nets plain --methods gradcam scorecam --each

For every method the largest difference from the CPU's map over its peak, the steps that a GPU would be given for a batch, and how often
it would be waited for (`tests.mock_gpu`). --each lists them all; else those that differ or raise, and the sums. Exit status 1 if a method
raises or differs by more than 1e-4, or if a row of the audit does; 2 if there is no compiler. The transformer is in double precision.
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.mock_gpu import NAME, Counted, start
from wallcheck import assets, models
from wallcheck.adapters import LeftBehind
from wallcheck.auditing import applicable, audit
from wallcheck.cams import METHODS, PAPER
from wallcheck.certificate import certify
from wallcheck.evidence import Evidence
from wallcheck.guarding import described
from wallcheck.measuring import scores
from wallcheck.models import BlindNet
from wallcheck.reading import leakage
from wallcheck.results import KEY

BOUND = 1e-4
LEFT_OUT = {
    "augmented_gradcam": "sums by a sparse matrix, which this device has not and a GPU has",
    "winsorcam": "on the transformer layers' importance is 0 but for rounding, which decides what is above 0",
    "xrai": "on the transformer regions are equal but for rounding, which decides their order",
}
NETS: dict[str, Callable[[], BlindNet]] = {
    "plain": lambda: assets.net("plain"),
    "residual": lambda: assets.net("residual"),
    "vit": lambda: models.vit_small_walls().double(),
}
PEERS = ("pytorch_grad_cam.GradCAM", "torchcam.LayerCAM", "captum.LayerGradCam", "captum.Saliency", "zennit.Gradient")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mock_gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--methods", nargs="+", help="names; every one if none is given")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--each", action="store_true", help="list every method")
    asked = parser.parse_args(arguments)
    if missing := [tool for tool in ("c++", "ninja") if shutil.which(tool) is None]:
        print(
            f"the device is built by a C++ compiler and ninja; there is no {' and no '.join(missing)} here",
            file=sys.stderr,
        )
        return 2
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", LeftBehind)  # what other libraries leave on a net is not what is looked for
    counted, wrong = start(), 0
    for name in asked.nets:
        net, images = NETS[name](), pictures(NETS[name](), asked.images)
        wrong += maps(name, net, images, asked.methods, counted, asked.each)
        if not asked.methods:
            wrong += around(net, images)
    for method, reason in LEFT_OUT.items():
        print(f"left out: {method}, {reason}")
    return 1 if wrong else 0


def of_tokens(net: BlindNet) -> bool:
    return net.graph.form.axes != "map"


def pictures(net: BlindNet, count: int) -> Tensor:
    """Shipped images where they fit the net, else noise."""
    shipped = assets.images("stack_mix").images()[:count]
    fits = tuple(shipped.shape[-2:]) == net.image_size and len(shipped) == count
    drawn = torch.Generator().manual_seed(0)
    kind = net.graph.example.dtype
    return (shipped if fits else torch.randn(count, net.colours, *net.image_size, generator=drawn)).to(kind)


def maps(
    name: str, net: BlindNet, images: Tensor, names: Sequence[str] | None, counted: Callable[[], Counted], each: bool
) -> int:
    """Prints a line for each method, or for those that are wrong; how many are."""
    wrong, steps, waits = 0, 0, 0
    reference, there = Evidence(net, images), Evidence(NETS[name]().to(NAME), images.to(NAME))
    _ = there.gradient, there.logits, there.targets
    left_out = list(LEFT_OUT) if of_tokens(net) else list(LEFT_OUT)[:1]
    methods = [method for method in applicable(net, names) if method.name not in left_out]
    for method in methods:
        wanted, apart, said = METHODS[method.name](reference), torch.inf, ""
        counted()
        try:
            found = METHODS[method.name](there)
        except Exception as error:
            found, said = None, described(error)
        count = counted()
        if found is not None:
            apart = relative(found.cpu(), wanted)
            said = "" if found.device.type == NAME else f"its map is on {found.device}"
        steps, waits = steps + count.steps.total(), waits + count.waits
        bad = bool(said) or not apart <= BOUND
        wrong += bad
        if each or bad:
            print(f"{name} {method.name}: {apart:.0e} apart, {count.steps.total()} steps, {count.waits} waits {said}")
    print(f"{name}: {len(methods)} methods of {len(images)} images, {wrong} wrong, {steps} steps, {waits} waits")
    return wrong


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value; infinite where nothing but 0 was wanted and something was found."""
    far, peak = float((found - wanted).abs().max()), float(wanted.abs().max())
    return far / peak if peak else torch.inf if far else 0.0


def around(net: BlindNet, images: Tensor) -> int:
    """Certificate, audit, scores and other libraries' explainers, there and here; how many values are apart."""
    rows = audit(net, images, list(PAPER), batch_size=2)
    # of a transformer's equal pixels rounding decides which is taken out first, and other libraries have no map
    before = {} if of_tokens(net) else scores(Evidence(net, images), METHODS["gradcam"])
    read = [leakage(peer, net, images[:1]).value for peer in PEERS if before]
    moved, there = net.to(NAME), images.to(NAME)
    certify(moved).raise_if_broken()
    both = rows.merge(audit(moved, there, list(PAPER), batch_size=2), on=KEY, how="outer", suffixes=("", "_there"))
    missing = both["value"].isna() != both["value_there"].isna()
    wrong = int((missing | ((both["value"] - both["value_there"]).abs() > BOUND)).sum())
    after = scores(Evidence(moved, there), METHODS["gradcam"]) if before else {}
    for name, values in after.items():
        if not torch.allclose(values.cpu(), before[name], atol=BOUND, equal_nan=True):
            print(f"{name}: {values.tolist()} there, {before[name].tolist()} here")
            wrong += 1
    again = [leakage(peer, moved, there[:1]).value for peer in PEERS if before]
    wrong += sum(abs(one - other) > BOUND for one, other in zip(read, again, strict=True))
    print(f"certified; {len(both)} rows, {len(before)} scores, {len(read)} readings of other libraries: {wrong} apart")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
