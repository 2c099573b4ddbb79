"""Rescoring: the weight of a channel is the score of the image seen through that channel's own map.

The weights are positive, so nothing cancels: wherever a channel is alive it lights up, seen or not.
What a mask keeps of the unseen pixels changes no score, and what it weighs on unseen cells is never
questioned. Every mask is an upsampled map stretched to [0, 1]; sources differ in when it is stretched,
where the corners lie and what the scores become.
"""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import chances_through, extremes, scores_through, stretched
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio, unit_range, weighted_sum

SHARE = 0.1  # of the channels, gScore-CAM's
VARIED = 10  # channels of Faster-Score-CAM, whose code leaves their number to its user


@cam_method(
    family="rescoring",
    source="Wang et al. 2020 (Score-CAM), eq. 4-8; as in grad-cam: logits, softmax over channels, upsampled with "
    "aligned corners, then stretched",
    cost="1F+K F",
    verdict="leaks",
)
def scorecam(ev: Evidence) -> Tensor:
    """w = softmax_k y(x * M_k), M_k = N(U(A_k)).

    The paper's baseline score is one constant per image and cancels in the softmax. A dead channel's
    mask is all zero, so it gets the weight of the black image, which its zero map does not show.
    """
    scores = [scores_through(ev, i, stretched(maps, ev.net.image_size, True), aligned=True) for i, maps in each(ev)]
    return weighted_sum(torch.stack(scores).softmax(1), ev.activations)


@cam_method(
    family="rescoring",
    source="Wang et al. 2020 (Score-CAM), the authors' code: probabilities as weights, half-pixel centres, "
    "stretched after upsampling",
    cost="1F+K F",
    verdict="leaks",
)
def scorecam_authors(ev: Evidence) -> Tensor:
    """w_k = p(x * M_k), the class's probability itself: no softmax over channels, no baseline.

    The code adds up U(A_k), un-normalised; upsampling is linear, so this is U of the map given here.
    A constant map is left out: it has no mask.
    """
    chances = torch.stack([chances_through(ev, i, stretched(maps, ev.net.image_size)) for i, maps in each(ev)])
    varied = ev.activations.amax((2, 3)) > ev.activations.amin((2, 3))
    return weighted_sum(chances * varied, ev.activations)


@cam_method(
    family="rescoring",
    source="Wang et al. 2020 (Score-CAM), as in torchcam: logits, softmax over channels, stretched, then upsampled "
    "with half-pixel centres",
    cost="1F+K F",
    verdict="leaks",
)
def scorecam_torchcam(ev: Evidence) -> Tensor:
    """w = softmax_k y(x * M_k), M_k = U(N(A_k)): the mask need not reach 1, nor 0, at any pixel.

    A dead channel's mask is all zero, as in `scorecam`. torchcam subtracts the score of the unmasked image, which cancels as any baseline does.
    """
    scores = torch.stack([scores_through(ev, i, unit_range(maps)) for i, maps in each(ev)])
    return weighted_sum(scores.softmax(1), ev.activations)


@cam_method(
    family="rescoring",
    source="Wang et al. 2020 (SS-CAM), noise on the mask as in torchcam, sigma 2; N = 10 (torchcam: 35)",
    cost="1F+10K F",
    verdict="leaks",
)
def sscam(ev: Evidence, samples: int = 10, sigma: float = 2.0) -> Tensor:
    """w = softmax_k mean_n y(x * (U(N(A_k)) + d_n)), d_n ~ N(0, sigma^2) at every pixel.

    Our choice: the N fields d_n are the same for all channels and images, so that channels differ by
    their maps and not by their luck, and equal masks stay equal. torchcam draws one per channel.
    """
    fields = noise(ev, samples, sigma)
    return weighted_sum(averaged(ev, [lambda x, m, d=d: x * (m + d) for d in fields]), ev.activations)


@cam_method(
    family="rescoring",
    source="Wang et al. 2020 (SS-CAM), second form: noise on the masked image, sigma 2, N = 10",
    cost="1F+10K F",
    verdict="leaks",
)
def sscam_input(ev: Evidence, samples: int = 10, sigma: float = 2.0) -> Tensor:
    """w = softmax_k mean_n y(x * U(N(A_k)) + d_n), d_n ~ N(0, sigma^2), one field for the three colours.

    Fields as in `sscam`. Pixels that the mask hides are noisy too.
    """
    fields = noise(ev, samples, sigma)
    return weighted_sum(averaged(ev, [lambda x, m, d=d: x * m + d for d in fields]), ev.activations)


@cam_method(
    family="rescoring",
    source="Naidu et al. 2020 (IS-CAM), masks scaled by n / N, N = 10",
    cost="1F+10K F",
    verdict="leaks",
)
def iscam(ev: Evidence, steps: int = 10) -> Tensor:
    """w = softmax_k mean_n y(x * U(N(A_k)) n / N), n = 1 .. N: the score along the way from black to the mask."""
    scales = [n / steps for n in range(1, steps + 1)]
    return weighted_sum(averaged(ev, [lambda x, m, t=t: x * (m * t) for t in scales]), ev.activations)


@cam_method(
    family="rescoring",
    source="Naidu et al. 2020 (IS-CAM), as in torchcam: the scales n / N are added up, N = 10",
    cost="1F+10K F",
    verdict="leaks",
)
def iscam_torchcam(ev: Evidence, steps: int = 10) -> Tensor:
    """As `iscam` with scales (1 + ... + n) / N: masks end at (N + 1) / 2 = 5.5, beyond every image the net knows."""
    scales = [n * (n + 1) / 2 / steps for n in range(1, steps + 1)]
    return weighted_sum(averaged(ev, [lambda x, m, t=t: x * (m * t) for t in scales]), ev.activations)


@cam_method(
    family="rescoring",
    source="Chen et al. 2022 (gScore-CAM): the top tenth of the channels by mean gradient, softmax among them",
    cost="1F+1b+K/10 F",
    verdict="may_leak",
)
def gscorecam(ev: Evidence) -> Tensor:
    """w = softmax_{k in T} y(x * M_k), T the tenth of the channels (one at least) of largest mean_u G_k; 0 outside T.

    The tenth is the paper's (300 of 3072 channels of CLIP's ResNet-50x16); masks as in `scorecam`.
    """
    scores = chosen_scores(ev)
    return weighted_sum(scores.softmax(1), ev.activations)


@cam_method(
    family="rescoring",
    source="Chen et al. 2022 (gScore-CAM), the authors' code: softmax over all channels, those not chosen score 0",
    cost="1F+1b+K/10 F",
    verdict="leaks",
)
def gscorecam_code(ev: Evidence) -> Tensor:
    """As `gscorecam`, but a channel that was not chosen enters the softmax with score 0 and so keeps a weight.

    Where the chosen channels' logits are negative, those never asked outweigh them.
    """
    scores = chosen_scores(ev)
    return weighted_sum(scores.masked_fill(scores.isinf(), 0).softmax(1), ev.activations)


@cam_method(
    family="rescoring",
    source="Tabayashi 2020 (Faster-Score-CAM, code without a paper): Score-CAM on the N channels that vary most over cells, "
    "N = 10 (there the user's), "
    "probabilities as weights, half-pixel centres; masks are divided by their range, no minimum taken off",
    cost="1F+10F",
    verdict="may_leak",
)
def faster_scorecam(ev: Evidence) -> Tensor:
    """sum_{k in T} p(x * M_k) A_k, M_k = U(A_k) / (max U(A_k) - min U(A_k)), T the 10 channels of largest standard deviation.

    A constant channel, which has no range, is its own mask. Where all channels are among the 10 and each is 0 at some pixel
    this is `scorecam_authors`.
    """
    weights = torch.zeros(ev.activations.shape[:2]).to(ev.activations)
    chosen = ev.activations.std((2, 3), correction=0).topk(min(VARIED, weights.shape[1])).indices
    for i, maps in each(ev):
        cells = maps[chosen[i]]
        low, high = extremes(cells, ev.net.image_size)
        masks = torch.where(high > low, ratio(cells, high - low), cells)
        weights[i, chosen[i]] = chances_through(ev, i, masks)
    return weighted_sum(weights, ev.activations)


def each(ev: Evidence):
    """Number and maps (K, h, w) of each image: masks are built for one image at a time."""
    return enumerate(ev.activations)


def averaged(ev: Evidence, paints: list) -> Tensor:
    """(B, K): softmax over channels of the explained logit averaged over ways to paint the image through a mask."""
    scores = [
        torch.stack([scores_through(ev, i, unit_range(maps), paint=paint) for paint in paints]).mean(0)
        for i, maps in each(ev)
    ]
    return torch.stack(scores).softmax(1)


def noise(ev: Evidence, samples: int, sigma: float) -> Tensor:
    """(samples, r, c): normal noise over the visible pixels, drawn over the whole image in float64."""
    drawn = torch.randn(samples, *ev.net.image_size, generator=ev.generator(), dtype=torch.float64)
    return (sigma * drawn[(..., *ev.graph.visible)]).to(ev.images)


def chosen_scores(ev: Evidence) -> Tensor:
    """(B, K): the explained logit through each channel of the tenth with the largest mean gradient, -inf elsewhere."""
    count = max(1, round(SHARE * ev.activations.shape[1]))
    chosen = ev.gradient.mean((2, 3)).topk(count).indices
    scores = torch.full(ev.activations.shape[:2], -torch.inf).to(ev.activations)
    for i, maps in each(ev):
        cells = stretched(maps[chosen[i]], ev.net.image_size, True)
        scores[i, chosen[i]] = scores_through(ev, i, cells, aligned=True)
    return scores
