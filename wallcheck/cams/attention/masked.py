"""ViT-ReciproCAM: the class's probability when an attention is given the class token and one patch alone.

An unseen patch leaves the class token on its own, whose probability is the constant of all unseen cells.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.cams.ablation.reciprocam import spread_cells
from wallcheck.cams.attention._tokens import attention_method, inattentive
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities


def unnormed(block: int) -> Callable[[BlindNet], str | None]:
    """For Method.refuses: why this block's attention has no LayerNorm's output to mask."""

    def refuses(net: BlindNet) -> str | None:
        if reason := inattentive(net):
            return reason
        written = net.graph.attending.blocks
        if len(written) < -block or written[block].normed is None:
            return "it has no LayerNorm of tokens before that attention; use a method of gradients"
        return None

    return refuses


@attention_method(
    source="Byun and Lee 2023 (ViT-ReciproCAM), 3 x 3 Gaussian, third-last LayerNorm: what the last attention is given",
    cost="1F+Z f",
    verdict="zero_but_offset_and_rim",
    refuses=unnormed(-1),
)
def vit_reciprocam(ev: Evidence) -> Tensor:
    """softmax(y)_c when the last block's LayerNorm hands on the class token, and the patches around i times
    [1 2 1]^2 / 16; all others are 0, and the residual connection is left alone, as by the authors' hook. An unseen patch beside
    the wall lights what its seen neighbours hold."""
    return masked(ev, -1, spread_cells(ev))


@attention_method(
    source="Byun and Lee 2023 (ViT-ReciproCAM), as released: the LayerNorm before the last but one attention",
    cost="1F+Z f",
    verdict="zero_but_offset_and_rim",
    refuses=unnormed(-2),
)
def vit_reciprocam_authors(ev: Evidence) -> Tensor:
    """`vit_reciprocam` one block earlier, which is where the release's default lands on torchvision's and timm's ViTs."""
    return masked(ev, -2, spread_cells(ev))


@attention_method(
    family="repair",
    repairs="vit_reciprocam",
    source="wallcheck: ViT-ReciproCAM without Gaussian, less the probability of the class token alone",
    cost="1F+Z f",
    verdict="zero",
    refuses=unnormed(-1),
)
def vit_reciprocam_subtracted(ev: Evidence) -> Tensor:
    """softmax(y)_c of the class token and patch i, less that of the class token alone."""
    return masked(ev, -1, torch.eye(ev.cells).to(ev.images).view(-1, *ev.unseen.shape), subtracted=True)


def masked(ev: Evidence, number: int, laid: Tensor, subtracted: bool = False) -> Tensor:
    """(B, h, w): the class's probability when a block's attention is given the prefix tokens, and patches times laid[u]
    (Z, h, w). What is laid on unseen cells alone is not scored: it is given the prefix tokens' probability itself, so that
    both are the same to the bit."""
    written, prefix = ev.graph.attending, ev.graph.form.prefix
    normed, entered = tokens_before(ev, number)
    onward, heard = written.onward(number), (laid * ~ev.unseen).flatten(1).any(1).nonzero()[:, 0]
    kept = torch.cat([torch.ones(len(laid), prefix).to(laid), laid.flatten(1)], 1)[:, :, None]
    alone = torch.cat([torch.ones(prefix), torch.zeros(ev.cells)]).to(laid)[:, None]
    found = []
    for image, target in enumerate(ev.targets.tolist()):

        def score(masks: Tensor, image: int = image, target: int = target) -> Tensor:
            rows = normed[image] * masks
            return probabilities(onward(rows, entered[image].expand_as(rows)))[:, target]

        empty = score(alone[None])
        values = empty.repeat(ev.cells)
        for cells in heard.split(ev.chunk(ev.graph.widest_whole)):
            values[cells] = score(kept[cells])
        found.append(values - empty if subtracted else values)
    return torch.stack(found).view(-1, *ev.unseen.shape)


def tokens_before(ev: Evidence, number: int) -> tuple[Tensor, Tensor]:
    """LayerNorm's output and the tokens it is made of, (B, T, C) each, before a block's attention."""
    written = ev.graph.attending
    return written.values(ev.images, written.blocks[number].normed, written.blocks[number].entered)
