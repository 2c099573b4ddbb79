"""Other libraries' explainers as methods: through one door, whatever they are; and by name, for tables and benchmarks.

    from wallcheck import adapters
    adapters.peers()                                     # every explainer of every library installed, by name
    mine = adapters.foreign(explain, net, images)        # a function, a class, an object as it is, or a text -> Method
    theirs = adapters.pytorch_grad_cam("GradCAM")        # also adapters.torchcam(...), adapters.captum(...)
    maps = theirs(evidence)

`wallcheck.leakage` and `wallcheck.audit` take all of these as they are. What comes through the door gets a clean copy of the net's
`model`, its view is measured (`wallcheck.handed`) and what it leaves behind is told. The three makers by name run on a stand-in
for the net that shares its weights and nothing else, and give maps in the library's own post-processed form, which is what timings
and parity need. A library is imported when one of its methods is called.

`CAPTUM` holds the methods that wallcheck takes from captum instead of writing them again; `methods()` is
wallcheck's own and, where captum is installed, those.
"""

from importlib.util import find_spec

from wallcheck.adapters._captum import CAPTUM, captum
from wallcheck.adapters._door import Door, LeftBehind
from wallcheck.adapters._grad_cam import pytorch_grad_cam
from wallcheck.adapters._methods import PEERS, Peer, foreign, installed, peers
from wallcheck.adapters._quantus import quantus_leakage
from wallcheck.adapters._stand_in import version
from wallcheck.adapters._torchcam import torchcam
from wallcheck.cams import METHODS, Method
from wallcheck.registry import Registry

__all__ = [
    "CAPTUM",
    "COUNTERPARTS",
    "PEERS",
    "Door",
    "LeftBehind",
    "Peer",
    "captum",
    "counterparts",
    "foreign",
    "installed",
    "methods",
    "peers",
    "pytorch_grad_cam",
    "quantus_leakage",
    "torchcam",
    "version",
]

LIBRARIES = {"pytorch_grad_cam": pytorch_grad_cam, "torchcam": torchcam, "captum": captum}

# Our method -> (library, its name, options); the nearest thing each library has.
COUNTERPARTS: dict[str, tuple[tuple[str, str, dict], ...]] = {
    "gradcam": (
        ("pytorch_grad_cam", "GradCAM", {}),
        ("torchcam", "GradCAM", {}),
        ("captum", "LayerGradCam", {}),
    ),
    "gradcampp": (("pytorch_grad_cam", "GradCAMPlusPlus", {}), ("torchcam", "GradCAMpp", {})),
    "xgradcam": (("pytorch_grad_cam", "XGradCAM", {}), ("torchcam", "XGradCAM", {})),
    "hirescam": (("pytorch_grad_cam", "HiResCAM", {}), ("captum", "LayerGradientXActivation", {})),
    "layercam": (("pytorch_grad_cam", "LayerCAM", {}), ("torchcam", "LayerCAM", {})),
    "gradcam_elementwise": (("pytorch_grad_cam", "GradCAMElementWise", {}),),
    "scorecam": (("pytorch_grad_cam", "ScoreCAM", {}),),
    "scorecam_torchcam": (("torchcam", "ScoreCAM", {}),),
    "ablationcam": (("pytorch_grad_cam", "AblationCAM", {}),),
    "eigencam": (("pytorch_grad_cam", "EigenCAM", {}),),
    "eigengradcam": (("pytorch_grad_cam", "EigenGradCAM", {}),),
    "segeigencam": (("pytorch_grad_cam", "SegEigenCAM", {}),),
    "kpcacam": (("pytorch_grad_cam", "KPCA_CAM", {}),),
    "fem": (("pytorch_grad_cam", "FEM", {}),),
    "sess_gradcam": (("pytorch_grad_cam", "SESS", {}),),
    "gradient": (("captum", "Saliency", {"abs": False}),),
    "inputxgradient": (("captum", "InputXGradient", {}),),
    "integrated_gradients": (("captum", "IntegratedGradients", {"n_steps": 16}),),
    "guidedbp": (("captum", "GuidedBackprop", {}),),
    "deeplift": (("captum", "DeepLift", {}),),
}


def counterparts(name: str) -> list[Method]:
    """The installed libraries' counterparts of one of wallcheck's methods.

    >>> [theirs.name for theirs in counterparts("constant")]
    []
    """
    METHODS[name]  # an unknown name is answered with the nearest
    return [
        LIBRARIES[library](theirs, **options)
        for library, theirs, options in COUNTERPARTS.get(name, ())
        if find_spec(library)
    ]


def methods() -> Registry[Method]:
    """wallcheck's own methods and, where captum is installed, those of `CAPTUM`."""
    known = Registry("method")
    for method in [*METHODS.values(), *(CAPTUM.values() if find_spec("captum") else ())]:
        known[method.name] = method
    return known
