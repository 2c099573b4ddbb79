"""Our methods beside pytorch-grad-cam, torchcam and captum: what is stated of each pair, and what shows it.

A pair is "equal" (our raw map is theirs), "equal as shown" (after the library's own post-processing, which a form names) or
"different"; "equal up to sign" where chance decides. Of a difference the cause is stated and put to the test: `settled` gives two maps that must be equal
once the cause alone is taken out, from our side or from theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from experiments.disagreements import settling
from wallcheck import adapters
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify
from wallcheck.numerics import unit_range

Pair = tuple[Tensor, Tensor]

PACKAGES = {"pytorch_grad_cam": "grad-cam", "torchcam": "torchcam", "captum": "captum"}


def shown(ev: Evidence, maps: Tensor) -> Tensor:
    """As pytorch-grad-cam: rectified, stretched, enlarged, stretched; a map of pixels is rectified and stretched."""
    return displayed(maps, ev.net.image_size) if maps.shape[1:] != ev.net.image_size else unit_range(rectify(maps))


FORMS: dict[str, Callable[[Evidence, Tensor], Tensor]] = {
    "as it is": lambda ev, maps: maps,
    "displayed": shown,
    "rectified, stretched": lambda ev, maps: unit_range(rectify(maps)),
    "stretched": lambda ev, maps: unit_range(maps),
}
FORM_OF = {"pytorch_grad_cam": "displayed", "torchcam": "rectified, stretched", "captum": "as it is"}


@dataclass(frozen=True)
class Comparison:
    """One of our methods and one explainer of another library.

    stated: "equal", "equal as shown", "different", "equal up to sign". theirs_on: evidence -> their maps. form: what is done to our map first,
    a key of FORMS. case: the evidence it is seen on, a key of `cases.cases`. cause: of a difference. settled:
    evidence -> two maps that are equal once the cause is taken out.
    """

    ours: str
    library: str
    explainer: str
    stated: str
    theirs_on: Callable[[Evidence], Tensor]
    form: str
    case: str = "plain"
    cause: str = ""
    settled: Callable[[Evidence], Pair] | None = None

    def maps(self, ev: Evidence) -> Pair:
        return FORMS[self.form](ev, METHODS[self.ours](ev)), self.theirs_on(ev)


def pair(ours: str, library: str, explainer: str, cause: str = "", **fields) -> Comparison:
    """A comparison with the adapter's explainer; with a cause it is stated to be different."""
    options = fields.pop("options", {})
    theirs_on = fields.pop("theirs_on", None) or adapters.LIBRARIES[library](explainer, **options)
    form = fields.pop("form", FORM_OF[library])
    stated = fields.pop("stated", "different") if cause else "equal" if form == "as it is" else "equal as shown"
    return Comparison(ours, library, explainer, stated, theirs_on, form, cause=cause, **fields)


def variant(name: str, library: str, theirs_on: Callable[[Evidence], Tensor]) -> Callable[[Evidence], Pair]:
    """Our registered variant `name` in the library's form, and their map."""
    return lambda ev: (FORMS[FORM_OF[library]](ev, METHODS[name](ev)), theirs_on(ev))


PGC, TC, CAPTUM = adapters.LIBRARIES
torchcam, grad_cam = adapters.torchcam, adapters.pytorch_grad_cam

GRAD_CAM = (
    *(
        pair(ours, PGC, theirs)
        for ours, theirs in {
            "gradcam": "GradCAM",
            "gradcampp": "GradCAMPlusPlus",
            "xgradcam": "XGradCAM",
            "hirescam": "HiResCAM",
            "layercam": "LayerCAM",
            "gradcam_elementwise": "GradCAMElementWise",
            "shapleycam_mean": "ShapleyCAM",
            "scorecam": "ScoreCAM",
            "ablationcam_published": "AblationCAM",
            "segeigencam": "SegEigenCAM",
            "kpcacam": "KPCA_CAM",
            "fem": "FEM",
        }.items()
    ),
    pair("finercam", PGC, "FinerCAM", theirs_on=settling.finer_without_targets),
    pair("layercam_mean", PGC, "LayerCAM, a list of layers", theirs_on=settling.layers_of_grad_cam("LayerCAM")),
    pair("sess_gradcam", PGC, "SESS"),
    pair("sess_hirescam", PGC, "SESS of HiResCAM", theirs_on=settling.sess_of_hirescam),
    pair("guidedbp", PGC, "GuidedBackpropReLUModel", theirs_on=settling.guided_of_grad_cam, form="as it is"),
    pair(
        "finercam",
        PGC,
        "FinerCAM, given targets",
        "targets replace the contrast it is named for: what it returns is Grad-CAM of the targets",
        theirs_on=grad_cam("FinerCAM"),
        settled=variant("gradcam", PGC, grad_cam("FinerCAM")),
    ),
    pair(
        "finercam",
        PGC,
        "FinerCAM",
        "1e-9 is added to the rivals' summed probability, here as small: as in the authors' code",
        theirs_on=settling.finer_without_targets,
        case="trained",
        settled=variant("finercam_authors", PGC, settling.finer_without_targets),
    ),
    pair(
        "gradcampp",
        PGC,
        "GradCAMPlusPlus",
        "1e-6 is added to 2 G^2 + G^3 sum A, which is smaller where |G| < 1e-3: weights then follow G^3",
        case="small gradients",
        settled=variant("gradcampp_epsilon", PGC, grad_cam("GradCAMPlusPlus")),
    ),
    *(
        pair(
            ours,
            PGC,
            theirs,
            "no sign rule: the SVD's sign changes with the machine and its threads, and a map with the other sign is cut "
            "away by the ReLU",
            stated="equal up to sign",
            settled=settling.either_sign(ours, grad_cam(theirs)),
        )
        for ours, theirs in {"eigencam": "EigenCAM", "eigengradcam": "EigenGradCAM"}.items()
    ),
    pair(
        "ablationcam",
        PGC,
        "AblationCAM",
        "the drop is divided by the score, which is negative here: the map is upside down",
        case="negative score",
        settled=variant("ablationcam_published", PGC, grad_cam("AblationCAM")),
    ),
    pair(
        "ablationcam_published",
        PGC,
        "AblationCAM",
        "a layer with negative values is not set to 0 but to its minimum less 1e7, and one 1e7 lower for each "
        "channel before it in the batch",
        case="layer without ReLU",
        settled=settling.ablated_far_below,
    ),
    pair(
        "scorecam_authors",
        PGC,
        "ScoreCAM",
        "a softmax of logits over channels and aligned corners, where the authors' code has probabilities",
        settled=variant("scorecam", PGC, grad_cam("ScoreCAM")),
    ),
    pair(
        "fullgrad",
        PGC,
        "FullGrad",
        "every channel is stretched to [0, 1] by itself, where the authors stretch a layer at once",
        theirs_on=settling.fullgrad_of_grad_cam,
        settled=variant("fullgrad_by_channel", PGC, settling.fullgrad_of_grad_cam),
    ),
    pair(
        "refinecam",
        PGC,
        "RefineCAM",
        "each layer's map is stretched again after enlarging, before the product: `refinecam_authors`, but for the 1e-6 of "
        "its Grad-CAM++",
        theirs_on=settling.refine_of_grad_cam,
        settled=settling.refined_after_enlarging,
    ),
)

TORCHCAM = (
    *(
        pair(ours, TC, theirs)
        for ours, theirs in {
            "gradcam": "GradCAM",
            "xgradcam": "XGradCAM",
            "layercam": "LayerCAM",
            "scorecam_torchcam": "ScoreCAM",
            "finercam_mean": "FinerCAM",
        }.items()
    ),
    pair("cam", TC, "CAM", theirs_on=torchcam("CAM", fc_layer="head_2"), form="stretched", case="pooled head"),
    pair(
        "layercam_fused_tanh",
        TC,
        "LayerCAM.fuse_cams",
        theirs_on=settling.fused_by_torchcam,
        form="as it is",
    ),
    pair(
        "refinecam_layercam",
        TC,
        "RefineCAM of LayerCAM",
        theirs_on=settling.refined_by_torchcam,
        form="displayed",
    ),
    pair(
        "gradcampp",
        TC,
        "GradCAMpp",
        "alpha's division is done on a copy (an index by a mask) and lost: alpha is its numerator, G^2",
        settled=variant("gradcampp_undivided", TC, torchcam("GradCAMpp")),
    ),
    pair(
        "gradcam",
        TC,
        "GradCAM",
        "1e-8 is added to the map's maximum, here as small: the map comes out half as bright",
        case="faint",
        settled=settling.dimmed,
    ),
    pair(
        "smooth_gradcampp",
        TC,
        "SmoothGradCAMpp",
        "relu(G) and the activations summed are those of the last noisy pass; noise sigma 0.3 whatever the image",
        options={"num_samples": 8},  # as many as ours
        settled=settling.smooth_on_our_noise,
    ),
    pair(
        "scorecam",
        TC,
        "ScoreCAM",
        "maps are stretched before they are enlarged, with half-pixel centres",
        settled=variant("scorecam_torchcam", TC, torchcam("ScoreCAM")),
    ),
    pair(
        "iscam",
        TC,
        "ISCAM",
        "the scales n / N are added up, so the last mask is (N + 1) / 2 = 5.5 times too bright",
        settled=variant("iscam_torchcam", TC, torchcam("ISCAM")),
    ),
    pair(
        "sscam",
        TC,
        "SSCAM",
        "noise of its own for every channel and image; ours is one field for all",
        options={"num_samples": 10},  # as many as ours; its own choice is 35
        settled=settling.sscam_on_our_noise,
    ),
    pair(
        "finercam",
        TC,
        "FinerCAM",
        "y_c - 0.6 mean_j y_j instead of the probability-weighted contrast of the authors' code",
        settled=variant("finercam_mean", TC, torchcam("FinerCAM")),
    ),
    pair(
        "layercam_fused",
        TC,
        "LayerCAM.fuse_cams",
        "tanh on the target layer too, where the paper leaves the deepest maps alone",
        theirs_on=settling.fused_by_torchcam,
        form="as it is",
        settled=settling.fused_with_tanh,
    ),
)

OF_CAPTUM = (
    pair("gradcam", CAPTUM, "LayerGradCam"),
    pair("hirescam", CAPTUM, "LayerGradientXActivation"),
    pair("gradient", CAPTUM, "Saliency", options={"abs": False}),
    pair("inputxgradient", CAPTUM, "InputXGradient"),
    pair("integrated_gradients", CAPTUM, "IntegratedGradients", options={"n_steps": 16}),
    pair("guidedbp", CAPTUM, "GuidedBackprop"),
    pair(
        "deeplift",
        CAPTUM,
        "DeepLift",
        "a ReLU and a max-pool that follow each other share a tensor, and captum hands the first the gradient from "
        "before the second's rule: attributions miss y(x) - y(0); equal once a product with 1 stands between them",
        settled=settling.deeplift_apart,
    ),
    pair(
        "lrp_epsilon",
        CAPTUM,
        "LRP",
        "epsilon is 1e-9: input times gradient; ours is 2 % of each unit's sum (and nn.Flatten has to be given a rule)",
        theirs_on=settling.lrp_of_captum,
        settled=settling.without_epsilon,
    ),
    pair(
        "lift_elementwise",
        CAPTUM,
        "LayerDeepLift",
        "its reference is the layer of the black image, LIFT-CAM's is the empty layer: the same once the head stands alone",
        settled=settling.lift_of_the_head,
    ),
    pair(
        "guidedgradcam",
        CAPTUM,
        "GuidedGradCam",
        "the coarse map is enlarged by nearest neighbour, in the paper bilinearly",
        settled=settling.guided_by_nearest,
    ),
)

COMPARISONS: tuple[Comparison, ...] = (*GRAD_CAM, *TORCHCAM, *OF_CAPTUM)
