"""Similarity: how much of a map is left after something was changed, by several measures that see different things."""

from torch import Tensor, nan

from wallcheck.maps import displayed
from wallcheck.numerics import correlation, ranks

MEASURES = {
    "spearman": "rank correlation of the raw maps: 1 the same order, -1 the reverse",
    "spearman_absolute": "rank correlation of their magnitudes, so that a map turned negative is the same",
    "pearson": "linear correlation of the raw maps",
    "ssim": "structural similarity of the displayed maps: 1 the same picture",
}


def similarities(one: Tensor, other: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """The MEASURES of raw maps (B, h, w) and (B, h, w) -> (B,) each; size: of the image, on which SSIM is taken.

    Adebayo et al. 2018 use the rank correlations, SSIM and one of gradients' histograms. NaN where the first map does not
    vary; where the second alone does not, 0 for the correlations. A bright place that stays bright because
    the image is bright there counts as similar: `constant` and `random` show the ends of each scale.
    """
    flat, changed = one.flatten(1), other.flatten(1)
    return {
        "spearman": correlation(ranks(flat), ranks(changed)),
        "spearman_absolute": correlation(ranks(flat.abs()), ranks(changed.abs())),
        "pearson": correlation(flat, changed),
        "ssim": ssim(displayed(one, size), displayed(other, size)),
    }


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of maps (B, H, W) from 0 to 1, torchmetrics' Gaussian window of 11 pixels:
    (B,), NaN where the first map is the same everywhere."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    pictures = (one[:, None].double(), other[:, None].double())
    found = structural_similarity_index_measure(*pictures, reduction="none", data_range=1.0)
    if not isinstance(found, Tensor):
        raise TypeError(f"torchmetrics gave {type(found).__name__}, expected a tensor; use another version of it")
    return found.reshape(len(one)).masked_fill(one.amax((1, 2)) == one.amin((1, 2)), nan)
