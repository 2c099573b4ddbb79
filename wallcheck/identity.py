"""What a study is: the nets, images and settings on which the value of a row depends, in digests; and whose folder it is."""

import hashlib
from pathlib import Path

from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.results import MANIFEST, Manifest, digest, shards

SLICE = 64  # images read at once


class Pictures:
    """The images of a set as digests of what a net is shown, and of their labels; each is read once, when it is asked for.

    Raises ValueError, naming the file, where an image cannot be read.
    """

    def __init__(self, images: ImageSet | PhotoFolder):
        self.images = images
        self._pixels: list[str] = []

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> dict[int, str]:
        """Number -> digest of the pixels, and label, of the first `count` images."""
        while len(self._pixels) < min(count, len(self)):
            here = len(self._pixels)
            some = self.images.images(slice(here, min(here + SLICE, count)))
            self._pixels += [hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16] for image in some]
        return {
            number: f"{self._pixels[number]}/{self.images.labels[number]}" for number in range(min(count, len(self)))
        }

    def identity(self, count: int) -> dict:
        """Of the first `count` images, or of all if there are fewer."""
        told = list(self.first(count).values())
        pixels, labels = zip(*(one.split("/") for one in told), strict=True)
        classes = list(map(str, self.images.classes))
        return dict(count=len(told), pixels=digest(pixels), labels=digest(labels), classes=classes)


def identity(weights: dict[str, str], regions: dict[str, str], settings: dict, sets: dict[str, dict]) -> dict:
    """The study as JSON. weights, regions: of each net, fingerprints of the net and of the one whose unseen region counts."""
    nets = {name: dict(weights=weights[name], unseen_of=regions[name]) for name in weights}
    return dict(nets=nets, **settings, image_sets=sets)


def claim(out: Path, manifest: Manifest, pictures: dict[str, Pictures]) -> str:
    """The digest of the study that the folder `out` holds, now or from before; manifest is written, or grown.

    A folder that began with fewer or more images is compared on those. Raises FileExistsError, naming what differs.
    """
    if shards(out) and not (out / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{out} holds rows but no {MANIFEST}, so whose they are is not known; put the manifest back, or choose another --out"
        )
    if not manifest.claim(out):
        kept = Manifest.load(out)
        sets = {name: pictures[name].identity(_count(kept, name, one)) for name, one in manifest.image_sets.items()}
        ours = Manifest(manifest.config, {**manifest.study, "image_sets": sets})
        if found := kept.differences(ours):
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise FileExistsError(
                f"{out} holds an audit of other nets, images or settings ({'; '.join(found[:3])}{more}); "
                f"choose another --out or remove that folder"
            )
        _same_explainers(kept, manifest, out)
        grown = kept.grown(manifest.config)
        if grown != kept:
            grown.save(out)
        manifest = kept
    return manifest.digest


def _same_explainers(kept: Manifest, ours: Manifest, out: Path) -> None:
    """Raise FileExistsError for a method from elsewhere that is another one than when the folder's rows were made: its source or its
    library's version is."""
    before = kept.config.get("foreign", {})
    for name, digest_now in ours.config.get("foreign", {}).items():
        if before.get(name, digest_now) != digest_now:
            raise FileExistsError(
                f"{out} holds rows of another version of {name} ({before[name]} there, {digest_now} here); choose another --out, or give "
                f"the function another name"
            )


def _count(kept: Manifest, name: str, ours: dict) -> int:
    before = kept.image_sets.get(name, {}).get("count")
    return before if isinstance(before, int) else ours["count"]
