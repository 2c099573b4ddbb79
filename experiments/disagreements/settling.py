"""What shows the cause of a difference: the other library run as its user would, and one side with the cause taken out."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.functional import interpolate

from wallcheck import adapters
from wallcheck.adapters._stand_in import stand_in
from wallcheck.cams import METHODS
from wallcheck.cams._layers import stages
from wallcheck.cams.pixel.gradients import guidedbp
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.cams.pooled.paths import NOISE_TORCHCAM
from wallcheck.cams.pooled.paths import noise as image_noise
from wallcheck.cams.rescoring.scores import noise as mask_noise
from wallcheck.evidence import Evidence
from wallcheck.graph._nodes import path_of
from wallcheck.keeping import undisturbed
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.numerics import unit_range

Pair = tuple[Tensor, Tensor]


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two maps (B, ...) as a share of the larger one's peak, over the batch."""
    peak = torch.maximum(ours.abs().flatten(1).amax(1), theirs.abs().flatten(1).amax(1)).double()
    off = (ours - theirs).abs().flatten(1).amax(1).double()
    return float((off / peak.clamp(min=torch.finfo(torch.float64).tiny)).max())


# -- pytorch-grad-cam -----------------------------------------------------------------------------


def of_grad_cam(ev: Evidence, explainer: str, layers: Sequence[str] = ("target",), targets: bool = True) -> Tensor:
    """What grad-cam returns, (B, H, W), for modules of the stand-in by name; without targets it takes the arg-max."""
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with undisturbed(ev.seed), torch.enable_grad():
        model = stand_in(ev.net)
        explain = getattr(library, explainer)(model, [model.get_submodule(name) for name in layers])
        classes = [ClassifierOutputTarget(t) for t in ev.targets.tolist()]
        maps = explain(ev.images, classes) if targets else explain(ev.images)
    return torch.as_tensor(maps).to(ev.images)


def stage_modules(ev: Evidence) -> list[str]:
    """Names of the modules whose outputs are the last of each resolution."""
    *earlier, _ = stages(ev)
    return [*(path_of(layer.step.nodes[0]).replace(".", "_") for layer in earlier), "target"]


def layers_of_grad_cam(explainer: str) -> Callable[[Evidence], Tensor]:
    return lambda ev: of_grad_cam(ev, explainer, stage_modules(ev))


def finer_without_targets(ev: Evidence) -> Tensor:
    return of_grad_cam(ev, "FinerCAM", targets=False)


def fullgrad_of_grad_cam(ev: Evidence) -> Tensor:
    return of_grad_cam(ev, "FullGrad", layers=[])


def refine_of_grad_cam(ev: Evidence) -> Tensor:
    return of_grad_cam(ev, "RefineCAM", stage_modules(ev))


def sess_of_hirescam(ev: Evidence) -> Tensor:
    from pytorch_grad_cam import HiResCAM

    return adapters.pytorch_grad_cam("SESS", base_method=HiResCAM)(ev)


def guided_of_grad_cam(ev: Evidence) -> Tensor:
    """One image at a time, which is all it takes; (H, W, 3) each, summed over colours."""
    from pytorch_grad_cam import GuidedBackpropReLUModel

    with torch.enable_grad():
        maps = [
            GuidedBackpropReLUModel(stand_in(ev.net))(image[None].clone(), target)
            for image, target in zip(ev.images, ev.targets.tolist(), strict=True)
        ]
    return torch.stack([torch.as_tensor(map_).sum(2) for map_ in maps]).to(ev.images)


def plusplus_weights(A: Tensor, G: Tensor, eps: float = 1e-6) -> Tensor:
    """Grad-CAM++ weights in float64, eps in the denominator of alpha."""
    A, G = A.double(), G.double()
    alpha = G**2 / (2 * G**2 + A.sum((2, 3), keepdim=True) * G**3 + eps)
    return (alpha * G.clamp(min=0)).where(G != 0, 0.0).sum((2, 3))


def either_sign(ours: str, theirs: Callable[[Evidence], Tensor]) -> Callable[[Evidence], Pair]:
    """Our map or its negative, displayed, whichever is nearer to theirs, image by image."""

    def settled(ev: Evidence) -> Pair:
        there, maps = theirs(ev), METHODS[ours](ev)
        both = torch.stack([displayed(sign * maps, ev.net.image_size) for sign in (1, -1)])
        nearer = (both - there).abs().amax((2, 3)).argmin(0)
        return both[nearer, torch.arange(len(maps))], there

    return settled


def ablated_far_below(ev: Evidence, batch: int = 32) -> Pair:
    """Ablation-CAM as it runs there on a layer with negative values: channel j of a batch is put to min - (j + 1) 1e7."""
    A = ev.activations
    scores = torch.empty(A.shape[:2])
    for image in range(len(A)):
        for channel in range(A.shape[1]):
            changed = A[image : image + 1].clone()
            changed[:, channel] = A[image].min() - (channel % batch + 1) * 1e7
            scores[image, channel] = ev.rescore(changed)[0, ev.targets[image]]
    weights = (ev.score[:, None] - scores) / ev.score[:, None]
    maps = torch.einsum("bk,bkhw->bhw", weights, A)
    return displayed(maps, ev.net.image_size), adapters.pytorch_grad_cam("AblationCAM")(ev)


def refined_after_enlarging(ev: Evidence) -> Pair:
    product = torch.ones(())
    for layer in stages(ev):
        weights = plusplus_weights(
            layer.output, layer.gradient.clamp(min=0)
        )  # alpha of relu(G) is alpha where it counts
        maps = torch.einsum("bk,bkhw->bhw", weights.float(), layer.output)
        product = product * unit_range(upsample(unit_range(rectify(maps)), ev.net.image_size))
    return unit_range(product), refine_of_grad_cam(ev)


# -- torchcam -------------------------------------------------------------------------------------


def of_torchcam(
    ev: Evidence, extractor, layers: Sequence[str] = ("target",), before=lambda cam: None, **options
) -> list:
    """What a torchcam class returns, one map per layer; before(cam): what is done to it first."""
    with undisturbed(ev.seed), torch.enable_grad():
        model = stand_in(ev.net)
        with extractor(model, [model.get_submodule(name) for name in layers], **options) as cam:
            before(cam)
            return [maps.detach() for maps in cam(ev.targets.tolist(), model(ev.images))]


def fused_by_torchcam(ev: Evidence) -> Tensor:
    from torchcam.methods import LayerCAM

    return LayerCAM.fuse_cams(of_torchcam(ev, LayerCAM, stage_modules(ev)), ev.net.image_size)


def fused_with_tanh(ev: Evidence) -> Pair:
    return METHODS["layercam_fused_tanh"](ev), fused_by_torchcam(ev)


def refined_by_torchcam(ev: Evidence) -> Tensor:
    from torchcam.methods import LayerCAM, RefineCAM

    (maps,) = of_torchcam(ev, RefineCAM, stage_modules(ev), base_method=LayerCAM)
    return maps


class Fields:
    """Our noise where torchcam draws its own: sample() gives the next field, whatever size is asked for."""

    def __init__(self, fields):
        self.fields = iter(fields)

    def sample(self, size) -> Tensor:
        return next(self.fields).expand(size)


def dimmed(ev: Evidence) -> Pair:
    """Our Grad-CAM stretched with 1e-8 added to its range."""
    maps = rectify(gradcam(ev))
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-8), adapters.torchcam("GradCAM")(ev)


def smooth_on_our_noise(ev: Evidence) -> Pair:
    from torchcam.methods import SmoothGradCAMpp

    ours = Fields(0.3 * field for field in image_noise(ev, 4, NOISE_TORCHCAM))
    (there,) = of_torchcam(ev, SmoothGradCAMpp, before=lambda cam: setattr(cam, "_distrib", ours))
    return unit_range(rectify(METHODS["smooth_gradcampp_last"](ev))), there


def sscam_on_our_noise(ev: Evidence) -> Pair:
    """Our fields cover the visible pixels; what is put on the others changes no score."""
    from torchcam.methods import SSCAM

    fields = torch.zeros(10, *ev.net.image_size).to(ev.images)
    fields[(..., *ev.net.visible)] = mask_noise(ev, 10, 2.0)
    (there,) = of_torchcam(ev, SSCAM, num_samples=10, before=lambda cam: setattr(cam, "_distrib", Fields(fields)))
    return unit_range(rectify(METHODS["sscam"](ev))), there


# -- captum ---------------------------------------------------------------------------------------


class Once(nn.Module):
    """A product with 1: nothing, but a tensor of its own."""

    def forward(self, values: Tensor) -> Tensor:
        return values * 1


def apart(model: GraphModule) -> GraphModule:
    """The model with a `Once` behind every module of the features."""
    graph = model.graph
    for number, node in enumerate([node for node in graph.nodes if str(node.target).startswith("features")]):
        model.add_module(f"once_{number}", Once())
        with graph.inserting_after(node):
            made = graph.call_module(f"once_{number}", (node,))
        node.replace_all_uses_with(made, delete_user_cb=lambda user, made=made: user is not made)
    model.recompile()
    return model


def deeplift_apart(ev: Evidence) -> Pair:
    from captum.attr import DeepLift

    with torch.enable_grad():
        there = DeepLift(apart(stand_in(ev.net))).attribute(ev.images.clone().requires_grad_(), target=ev.targets)
    return METHODS["deeplift"](ev), there.detach().sum(1)


def lrp_of_captum(ev: Evidence) -> Tensor:
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import EpsilonRule

    model = stand_in(ev.net)
    model.target = Once()  # its hooks must not meet those of the module before on one tensor
    for module in model.modules():
        if isinstance(module, (nn.Flatten, Once)):
            module.rule = EpsilonRule()
    with torch.enable_grad():
        return LRP(model).attribute(ev.images.clone().requires_grad_(), target=ev.targets).detach().sum(1)


def without_epsilon(ev: Evidence) -> Pair:
    return METHODS["inputxgradient"](ev), lrp_of_captum(ev)


def lift_of_the_head(ev: Evidence) -> Pair:
    from captum.attr import DeepLift

    cells, head = ev.handed(ev.activations).contiguous(), copy.deepcopy(ev.net.head)
    with torch.enable_grad():
        there = DeepLift(head).attribute(cells.requires_grad_(), torch.zeros_like(cells), target=ev.targets)
    return ev.handed(METHODS["lift_elementwise"](ev)[:, None])[:, 0], there.detach().sum(1)


def guided_by_nearest(ev: Evidence) -> Pair:
    coarse = interpolate(rectify(gradcam(ev))[:, None], ev.net.image_size, mode="nearest")[:, 0]
    return coarse * guidedbp(ev), adapters.captum("GuidedGradCam")(ev)
