"""Can every family of image classifiers be walled, and do the exact claims hold on each?

    python -m experiments.families                             all families, untrained, on a CPU
    python -m experiments.families --only resnet18 swin_t       some of them; rows of the others are kept
    pip install 'wallcheck[timm]'                               for the members that timm builds

The smallest member of each family, weights drawn from a seed, goes behind a trunk wall at its last layer with a map and
behind a head wall at an early layer, where a head wall hides pixels at all. For each wall: seconds of processor time for
`blind` (export, wall and proof) and for the proof alone; unseen pixels; whether these are all of the wall's own side, and how
many beside it (those that no window reads where strides leave a rest); whether logits are equal to the bit and the gradient
exactly 0 there, with noise of 1e3 in place of unseen pixels; whether the model handed in is as before, to the bit; HiResCAM
and Layer-CAM on unseen cells (exactly 0 expected) and Grad-CAM (not); whether pytorch-grad-cam and captum on `net.model` show
the same maps; methods that are refused, and why. Leaves families.md and families.json (settings, versions, rows) in --docs.
A family that cannot be walled is named with the reason.
"""

import json
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from experiments import flags
from experiments.families.measuring import measured
from experiments.families.members import MEMBERS
from experiments.families.page import page
from wallcheck.results import Manifest
from wallcheck.tables import progress_bar
from wallcheck.writing import write_text


@dataclass(frozen=True)
class Families:
    """Families of classifiers behind walls.

    Args:
        only: members to take; all if none is named.
        images: drawn for each.
        seed: of weights and images.
        docs: where the page and its manifest go.
    """

    only: list[str] = field(default_factory=list)
    images: int = 2
    seed: int = 0
    docs: str = "docs/results"


def main(options: Families) -> None:
    warnings.simplefilter("ignore")  # of constructors, on initial weights
    for name in options.only:
        if name not in MEMBERS:
            raise LookupError(f"no member named {name!r}; there are {', '.join(MEMBERS)}")
    docs, names = Path(options.docs), options.only or list(MEMBERS)
    docs.mkdir(parents=True, exist_ok=True)
    rows = kept_rows(docs / "families.json", options)
    with progress_bar() as tell:
        for i, name in enumerate(names):
            tell(i, len(names), name)
            rows[name] = list(measured(name, options.images, options.seed))
            write(docs, [row for each in MEMBERS for row in rows.get(each, [])], options)


def settings(options: Families) -> dict:
    """What rows depend on."""
    return dict(images=options.images, seed=options.seed)


def kept_rows(path: Path, options: Families) -> dict[str, list[dict]]:
    """Rows of an earlier call with the same settings, by member; those of members measured again are replaced."""
    if not options.only or not path.is_file():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["config"] != settings(options):
        raise FileExistsError(f"{path} holds rows of {kept['config']}; choose another --docs or leave --only out")
    rows: dict[str, list[dict]] = defaultdict(list)
    for row in kept["rows"]:
        rows[row["name"]].append(row)
    return rows


def write(docs: Path, rows: list[dict], options: Families) -> None:
    kept = asdict(Manifest(config=settings(options)))
    kept["versions"] |= {"timm": _version("timm")}
    write_text(docs / "families.json", json.dumps(kept | {"rows": rows}, indent=1) + "\n")
    write_text(docs / "families.md", page(rows, options.images, options.seed))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    flags.script("experiments.families", main, Families)
