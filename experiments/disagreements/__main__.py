"""Our methods against pytorch-grad-cam, torchcam and captum on the same net and images: equal, or different and why.

    python -m experiments.disagreements                      a net and images drawn from a seed; two minutes
    python -m experiments.disagreements --model runs/reproduce/walled/model.safetensors --images my/photographs

Every cause is tested by taking it out: what is left must be rounding. The authors' own code is set beside the methods too, see
`releases`. Prints a table and leaves disagreements.json and releases.json in --out and disagreements.md in --docs. Exits with status 1 if a statement does not hold for the installed versions.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from experiments import flags
from experiments.disagreements import transformers
from experiments.disagreements.cases import cases, drawn
from experiments.disagreements.comparisons import COMPARISONS, PACKAGES, Comparison
from experiments.disagreements.releases import RELEASES, Distance, Release, distance
from experiments.disagreements.settling import gap
from wallcheck import models
from wallcheck.data import open_images
from wallcheck.evidence import Evidence
from wallcheck.tables import progress_bar
from wallcheck.writing import write_text

TOLERANCE = 1e-3  # of a map's peak; rounding leaves 1e-6 to 1e-4


@dataclass(frozen=True)
class Disagreements:
    """Our methods against other libraries, map by map.

    Args:
        model: model.safetensors of a trained net; vgg_small with a drawn head and drawn biases if not given.
        images: a folder of images or an image set; smooth noise if not given.
        count: images compared.
        seed: of the drawn net and images.
        out: where disagreements.json goes.
        docs: where disagreements.md goes.
    """

    model: str | None = None
    images: str | None = None
    count: int = 4
    seed: int = 0
    out: str = "runs/disagreements"
    docs: str = "docs"


@dataclass(frozen=True)
class Finding:
    """What was stated of a pair and what was measured: largest difference as a share of the peak, with the cause in
    (`left`: once it is taken out)."""

    ours: str
    library: str
    version: str
    explainer: str
    case: str
    form: str
    stated: str
    difference: float
    left: float | None
    cause: str

    @property
    def measured(self) -> str:
        same = "equal" if self.form == "as it is" else "equal as shown"
        return same if self.difference <= TOLERANCE else "different"

    @property
    def holds(self) -> bool:
        if self.stated == "equal up to sign":
            return self.left <= TOLERANCE
        return self.measured == self.stated and (self.left is None or self.left <= TOLERANCE)


def find(comparison: Comparison, evidence: Evidence) -> Finding:
    """Both maps, and both once the cause of a stated difference is taken out."""
    left = gap(*comparison.settled(evidence)) if comparison.settled else None
    return Finding(
        comparison.ours,
        PACKAGES[comparison.library],
        version(PACKAGES[comparison.library]),
        comparison.explainer,
        comparison.case,
        comparison.form,
        comparison.stated,
        gap(*comparison.maps(evidence)),
        left,
        comparison.cause,
    )


Tell = Callable[[int, int, str], None]


def findings(
    evidence: dict[str, Evidence],
    comparisons: Iterable[Comparison] | None = None,
    tell: Tell = lambda done, total, what: None,
) -> Iterator[Finding]:
    comparisons = list(COMPARISONS if comparisons is None else comparisons)
    for number, comparison in enumerate(comparisons):
        tell(number, len(comparisons), f"{comparison.ours} / {comparison.explainer}")
        yield find(comparison, evidence[comparison.case])


def beside_releases(
    evidence: dict[str, Evidence],
    tell: Tell = lambda done, total, what: None,
    releases: Iterable[Release] = RELEASES,
) -> list[tuple[Release, dict[str, Distance]]]:
    """Each release and how far ours is from it, by name of the evidence: the net as given, and trained."""
    releases, found = list(releases), []
    for number, release in enumerate(releases):
        tell(number, len(releases), f"{release.ours} / {release.where}")
        found.append((release, {case: distance(release, evidence[case]) for case in ("plain", "trained")}))
    return found


def smooth_noise(count: int, size: int, seed: int) -> Tensor:
    """Blobs with grain, (count, 3, size, size)."""
    draw = torch.Generator().manual_seed(seed)
    blobs = interpolate(torch.randn(count, 3, size // 8, size // 8, generator=draw), (size, size), mode="bilinear")
    return blobs + 0.3 * torch.randn(count, 3, size, size, generator=draw)


def table(found: list[Finding]) -> Table:
    shown = Table(title="wallcheck and other libraries", title_justify="left")
    for heading in ("ours", "theirs", "seen on", "verdict"):
        shown.add_column(heading)
    for heading in ("difference", "left"):
        shown.add_column(heading, justify="right")
    for one in found:
        verdict = one.stated if one.holds else f"[red]{one.measured}, stated {one.stated}[/red]"
        theirs = f"{one.library} {one.explainer}"
        shown.add_row(one.ours, theirs, one.case, verdict, f"{one.difference:.0e}", _number(one.left))
    return shown


def markdown(found: list[Finding], about: str) -> str:
    """The page in docs/: what is equal, then what differs and why."""
    versions = ", ".join(sorted({f"{one.library} {one.version}" for one in found}))
    page = [
        "# Where wallcheck and other libraries agree, and where they do not",
        "",
        f"Made by `python -m experiments.disagreements` with {versions}, torch {torch.__version__.split('+')[0]}; {about}.",
        "Differences are the largest over images and positions, as a share of the map's peak; up to "
        f"{TOLERANCE:g} counts as rounding. *Displayed*: rectified, stretched to [0, 1], enlarged bilinearly and stretched again, as "
        "pytorch-grad-cam does to every map.",
        "",
        "## Equal",
        "",
        "| ours | theirs | our map is | difference |",
        "|---|---|---|---|",
    ]
    for one in found:
        if one.left is None:
            page.append(
                f"| `{one.ours}` | {one.library}: {one.explainer} | {one.form} | {one.difference:.0e}{_flag(one)} |"
            )
    page += [
        "",
        "## Different",
        "",
        "*Left*: the difference that remains once the stated cause, and nothing else, is taken out.",
        "",
        "| ours | theirs | seen on | difference | cause, in theirs unless said otherwise | left |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        if one.left is not None:
            theirs = f"{one.library}: {one.explainer}"
            page.append(
                f"| `{one.ours}` | {theirs} | {one.case} | {one.difference:.0e} | {one.cause.replace('|', chr(92) + '|')} | {_number(one.left)}{_flag(one)} |"
            )
    return "\n".join(page) + "\n"


def releases_page(found: list[tuple[Release, dict[str, Distance]]]) -> str:
    """The section on authors' own code: what it does otherwise and what that is worth."""
    page = [
        "",
        "## Authors' releases",
        "",
        "What the authors' own code does otherwise than the paper or than ours, written out from its formula: as a method of its own "
        "where that changes what is seen behind the wall, else (and where a search is cut short or ties are left to rounding) in "
        "`experiments/disagreements/releases.py`. Maps as displayed. "
        "*Trained*: the same net after 120 steps on marked images, scores scaled until the other classes are left about "
        "2e-9; methods of attention: a small transformer as drawn, and after 60 steps, unscaled. *Unseen*: mean share of positive "
        "attribution on unseen pixels, ours / theirs.",
        "",
        "| ours | code | what it does | as | difference | unseen | trained | unseen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for release, seen in found:
        sizes = " | ".join(
            f"{one.difference:.2g} | {one.ours_unseen:.3f} / {one.theirs_unseen:.3f}" for one in seen.values()
        )
        name = f"`{release.variant}`" if release.variant else ""
        page.append(f"| `{release.ours}` | {release.where} | {release.does} | {name} | {sizes} |")
    return "\n".join(page) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _flag(finding: Finding) -> str:
    return "" if finding.holds else f" (**does not hold**: {finding.measured})"


def main(options: Disagreements) -> None:
    net = models.load(options.model) if options.model else drawn(models.vgg_small(seed=options.seed))
    size = net.image_size[0]
    images = smooth_noise(options.count, size, options.seed)
    if options.images:
        images = open_images(options.images, size).images(range(options.count))
    about = f"{'trained' if options.model else 'drawn'} vgg_small, {len(images)} images"
    evidence = cases(net, images)
    with progress_bar() as tell:
        found = list(findings(evidence, tell=tell))
        releases = beside_releases(evidence, tell)
        releases += beside_releases(transformers.evidence(len(images)), tell, transformers.RELEASES)
    Console(width=None if sys.stdout.isatty() else 160).print(table(found))
    for folder in (options.out, options.docs):
        Path(folder).mkdir(parents=True, exist_ok=True)
    rows = [asdict(one) | dict(measured=one.measured, holds=one.holds) for one in found]
    write_text(Path(options.out) / "disagreements.json", json.dumps(rows, indent=1) + "\n")
    distances = [
        dict(ours=release.ours, where=release.where, case=case) | asdict(one)
        for release, seen in releases
        for case, one in seen.items()
    ]
    write_text(Path(options.out) / "releases.json", json.dumps(distances, indent=1) + "\n")
    write_text(
        Path(options.docs) / "disagreements.md",
        markdown(found, about) + releases_page(releases) + transformers.run_page(),
    )
    if wrong := [one for one in found if not one.holds]:
        raise ValueError(
            f"{len(wrong)} statements do not hold for the installed versions; they are marked in the table"
        )


if __name__ == "__main__":
    flags.script("experiments.disagreements", main, Disagreements)
