"""Methods of attention beside their authors' code, on small transformers behind attention walls.

`RELEASES`: what a release does otherwise, written out from its formula and seen on the same evidence as ours. `RUN`: what was found
when the authors' code itself was run beside ours, outside this project, which holds none of it.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from experiments.disagreements.cases import marked
from experiments.disagreements.releases import Release, released
from wallcheck.attended import alive
from wallcheck.cams.attention._tokens import as_read, identity, on_cells
from wallcheck.evidence import Evidence
from wallcheck.graph._nodes import part
from wallcheck.models import vit_small_walls

SIZE, STEPS = 48, 60
DROPPED = 0.9  # vit-explain's default

# method -> repository, largest difference as a share of the peak: 56 px, 14 x 14 patches, 3 blocks of 2 heads, 16 channels, no
# wall, 4 images each on a drawn and a trained net, single precision.
RUN = {
    "transformer_attribution": (
        "hila-chefer/Transformer-Explainability",
        "1e-3; 2e-5 once its code runs in double precision",
    ),
    "rollout": ("hila-chefer/Transformer-Explainability", "0"),
    "generic_attention": ("hila-chefer/Transformer-MM-Explainability, its ViT notebook", "1e-7"),
    "attention_gradcam": (
        "hila-chefer/Transformer-Explainability",
        "equal where its map is not 0 / 0, as on 7 of 8 images, where ours is empty once rectified",
    ),
    "gradient_rollout_authors": ("jacobgil/vit-explain", "2e-7"),
    "agcam": ("LeemSaebom/Attention-Guided-CAM", "6e-8"),
    "bt_head": ("jiaminchen-1031/transformerinterp, from the first block on", "1e-7"),
    "bt_token": ("jiaminchen-1031/transformerinterp, from the first block on", "0"),
    "tam": ("XianrenYty/Transition_Attention_Maps, from the first block on", "8e-8"),
    "legrad": (
        "WalBouss/LeGrad, the class's weights as its text; stretched to [0, 1]",
        "0.02 to 0.45: a cosine for a logit",
    ),
}

TORCHCAMS = (
    "torchcam 0.5.0's LeGrad on torchvision's transformer without a wall, stretched to [0, 1] as there, is `legrad` to 1e-5 of the "
    "peak: it adds 1e-8 to a range of 2e-3. `tests/cams/test_attention.py` holds it."
)


def evidence(count: int, seed: int = 0) -> dict[str, Evidence]:
    """Images on a small transformer as drawn, and on the same after some steps on marked images."""
    draw = torch.Generator().manual_seed(seed)
    plain, net = (vit_small_walls(num_classes=4, image_size=SIZE, seed=seed) for _ in range(2))
    images, _ = marked(plain, count, draw)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(STEPS):
        shown, labels = marked(net, 32, draw)
        optimiser.zero_grad()
        cross_entropy(net.train()(shown), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    return {"plain": Evidence(plain.eval(), images), "trained": Evidence(net.eval(), images)}


def rollout_of_vit_explain(ev: Evidence) -> Tensor:
    """Heads by their mean, the lowest 90 % of M at 0 but for its first entry, columns divided by row sums."""
    product = identity(ev)
    for block in ev.attention.blocks:
        mixing = block.probabilities.mean(1)
        flat = mixing.flatten(1).clone()
        lowest = flat.topk(int(DROPPED * flat.shape[1]), 1, largest=False).indices
        first = flat[:, :1].clone()
        flat = torch.cat([first, flat.scatter(1, lowest, 0.0)[:, 1:]], 1)
        added = (flat.view_as(mixing) + identity(ev)) / 2
        product = (added / added.sum(-1)[:, None, :]) @ product
    return on_cells(ev, as_read(ev, product))


def legrad_by_cosine(ev: Evidence) -> Tensor:
    """s_l = cos(LN(mean of all tokens of block l), the class's weights)."""
    written = ev.graph.attending
    last = next(node for node in reversed(written.run.graph.nodes) if node.op == "output").args[0]
    before = part(written.run, [written.blocks[-1].left], [last.args[0]])
    weights = getattr(written.run, last.args[1].target)
    with torch.enable_grad():
        blocks, logits = alive(ev.graph, ev.images.detach().requires_grad_())
        ev.explained_here(logits)
        maps = []
        for block in blocks:
            said = before(block.left.mean(1, keepdim=True).expand_as(block.left))
            score = (normalize(said, dim=1) * normalize(weights[ev.targets], dim=1)).sum()
            (slope,) = torch.autograd.grad(score, block.probabilities, retain_graph=True)
            maps.append(slope.clamp(min=0).mean((1, 2)))
    return on_cells(ev, torch.stack(maps).mean(0))


RELEASES: tuple[Release, ...] = (
    Release(
        "rollout",
        "jacobgil/vit-explain",
        "the lowest 90 % dropped, columns divided by row sums",
        rollout_of_vit_explain,
    ),
    released(
        "gradient_rollout",
        "jacobgil/vit-explain",
        "gradients of scores, in backward order; columns divided by row sums",
        "gradient_rollout_authors",
    ),
    Release(
        "legrad", "WalBouss/LeGrad", "scores by the cosine with a text; last two blocks (here all)", legrad_by_cosine
    ),
    released("vit_reciprocam", "sybyun/vitcam", "masks one block earlier", "vit_reciprocam_authors"),
)


def run_page() -> str:
    """The section on code that was run beside ours."""
    page = [
        "",
        "## Authors' code for transformers, run beside ours",
        "",
        "Largest difference as a share of the map's peak, on small transformers without a wall (14 x 14 patches, drawn and "
        "trained, 4 images each). The code was run outside this project, which holds none of it, so this table is not made anew "
        "by the command.",
        "",
        "| ours | code | difference |",
        "|---|---|---|",
    ]
    rows = [f"| `{name}` | {where} | {size} |" for name, (where, size) in RUN.items()]
    return "\n".join([*page, *rows, "", TORCHCAMS]) + "\n"
