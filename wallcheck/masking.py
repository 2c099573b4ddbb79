"""Images masked by their maps, and what the net makes of them: the answers that faithfulness metrics compare.

A masked pixel is 0 in normalised space, the mean of ImageNet, unless it is filled in from around. All images go through
`Evidence.rescore_images`, which computes only what the net can see. Probabilities are double: near 1 a single one has no
room for a gain.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.imputing import imputed
from wallcheck.numerics import probabilities

STEPS = 24
TENTHS = range(1, 10)
NOISE = 0.01  # of imputed pixels, the authors' in units of the image as it is handed to the net
SQUARES, SIDE = 64, 1 / 4  # of the image's sides


def chances(ev: Evidence, masks: Tensor) -> Tensor:
    """p of the explained class for each image times each of its masks, (B, N, H, W) -> (B, N)."""
    owner = owners(masks)
    flat = masks.flatten(0, 1)[:, None]
    logits = ev.rescore_images(lambda piece: ev.images[owner[piece]] * flat[piece], len(flat))
    return ev.of_target(probabilities(logits.double()), owner).view(masks.shape[:2])


def asked(ev: Evidence, shown: Tensor, steps: int = STEPS, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """What faithfulness metrics ask for, by the names of `wallcheck.metrics.ASKED`; names: some of them, None is all.

    shown (B, H, W): maps from 0 to 1. kept and removed are (B,), deleted and inserted (B, steps + 1), the imputed ones
    (B, 9), squares (B, 2, 64). An empty map says nothing, so its answers are NaN. Raises ValueError for maps
    outside [0, 1].
    """
    if shown.shape != ev.images[:, 0].shape or (shown < 0).any() or (shown > 1).any():
        raise ValueError(
            f"maps are {tuple(shown.shape)} from {shown.min():.3g} to {shown.max():.3g}, expected "
            f"{tuple(ev.images[:, 0].shape)} from 0 to 1; wallcheck.maps.displayed makes them so"
        )
    answers: dict[str, Callable[[], Tensor]] = {
        "kept": lambda: chances(ev, shown[:, None])[:, 0],
        "removed": lambda: chances(ev, 1 - shown[:, None])[:, 0],
        "deleted": lambda: chances(ev, ~brightest_first(ev, shown, steps)),
        "inserted": lambda: chances(ev, brightest_first(ev, shown, steps)),
        "brightest_imputed": lambda: chances_imputed(ev, brightest_first(ev, shown, 10)[:, TENTHS]),
        "darkest_imputed": lambda: chances_imputed(ev, brightest_first(ev, -shown, 10)[:, TENTHS]),
        "squares": lambda: square_by_square(ev, shown),
    }
    found = {name: answers[name]() for name in dict.fromkeys(answers if names is None else names)}
    empty = (shown == 0).flatten(1).all(1)
    return {name: p.masked_fill(empty.view(-1, *[1] * (p.ndim - 1)), torch.nan) for name, p in found.items()}


def brightest_first(ev: Evidence, maps: Tensor, steps: int) -> Tensor:
    """(B, steps + 1, H, W) Boolean: the brightest 0, 1, ..., all `steps`-ths of the pixels of maps (B, H, W).

    Equal pixels come in a random order, the same for every image: whatever order an image is stored in
    would favour its top rows, and most maps are 0 over half the image.
    """
    values = maps.flatten(1)
    count = values.shape[1]
    shuffled = torch.randperm(count, generator=ev.generator(salt=71)).to(values.device)
    order = shuffled[values[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(count, device=order.device).expand_as(order))
    step = torch.arange(steps + 1, device=order.device)[:, None]
    return (place[:, None] * steps < step * count).view(len(maps), steps + 1, *maps.shape[1:])


def chances_imputed(ev: Evidence, missing: Tensor) -> Tensor:
    """p of the explained class for each image with the pixels missing (B, N, H, W) filled in from around, plus noise that
    is the same for all: (B, N)."""
    owner, flat = owners(missing), missing.flatten(0, 1)
    drawn = torch.randn(ev.images.shape[1:], generator=ev.generator(salt=72), dtype=torch.float64)
    noise = (NOISE * drawn).to(ev.images)

    def filled(piece: slice) -> Tensor:
        pairs = zip(ev.images[owner[piece]], flat[piece], strict=True)
        return torch.stack([imputed(image, gone) + noise * gone for image, gone in pairs])

    logits = ev.rescore_images(filled, len(flat))
    return ev.of_target(probabilities(logits.double()), owner).view(missing.shape[:2])


def square_by_square(ev: Evidence, maps: Tensor) -> Tensor:
    """(B, 2, N): the sum of maps (B, H, W) over each of N random squares, and the logit less the logit without it.

    All images share the squares, which lie within the image wherever it is.
    """
    squares = random_squares(ev)
    count = len(squares)
    hidden = torch.cat([squares, torch.zeros_like(squares[:1])])  # the last hides nothing
    owner = torch.arange(len(maps), device=maps.device).repeat_interleave(count + 1)
    which = torch.arange(count + 1, device=maps.device).repeat(len(maps))
    logits = ev.rescore_images(lambda piece: ev.images[owner[piece]] * ~hidden[which[piece], None], len(owner))
    scores = ev.of_target(logits.double(), owner).view(len(maps), count + 1)
    said = torch.einsum("bhw,nhw->bn", maps.double(), squares.double())
    return torch.stack([said, scores[:, -1:] - scores[:, :-1]], 1)


def random_squares(ev: Evidence) -> Tensor:
    """(N, H, W) Boolean: squares of a quarter of the image's sides, anywhere in it."""
    draw, inside = ev.generator(salt=73), []
    for side in ev.net.image_size:
        width = max(1, round(SIDE * side))
        start = torch.randint(side - width + 1, (SQUARES, 1), generator=draw).to(ev.images.device)
        place = torch.arange(side, device=ev.images.device)
        inside.append((place >= start) & (place < start + width))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]


def owners(masks: Tensor) -> Tensor:
    """(B N,): the image of each of masks (B, N, ...), laid in one row."""
    return torch.arange(len(masks), device=masks.device).repeat_interleave(masks.shape[1])
