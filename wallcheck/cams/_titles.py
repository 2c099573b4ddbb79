"""How a method is called where people read: its published spelling, and what kind of variant it is. One table for all texts.

The registered name is what is typed; `called` is what figures, reports and pages say.
"""

PUBLISHED = {
    "ablationcam": "Ablation-CAM",
    "adasise": "Ada-SISE",
    "agcam": "AGCAM",
    "attcat": "AttCAT",
    "attention_gradcam": "attention Grad-CAM",
    "attnlrp": "AttnLRP",
    "augmented_gradcam": "Augmented Grad-CAM",
    "bt": "BT",
    "cam": "CAM",
    "cameras": "CAMERAS",
    "clustercam": "Cluster-CAM",
    "cplrp": "CP-LRP",
    "decomcam": "DecomCAM",
    "deeplift": "DeepLIFT",
    "dff": "DFF",
    "eigencam": "Eigen-CAM",
    "eigengradcam": "Eigen-Grad-CAM",
    "excitationbp": "excitation backprop",
    "expected_gradcam": "Expected Grad-CAM",
    "extremal_soft": "extremal perturbation (soft)",
    "fastcam": "FastCAM",
    "faster_scorecam": "Faster-Score-CAM",
    "fdcam": "FD-CAM",
    "fem": "FEM",
    "fgcam": "FG-CAM",
    "finer_hirescam": "Finer-CAM on HiResCAM",
    "finer_layercam": "Finer-CAM on Layer-CAM",
    "finercam": "Finer-CAM",
    "fullgrad": "FullGrad",
    "generic_attention": "generic attention",
    "gmar": "GMAR",
    "gradcam": "Grad-CAM",
    "gradcampp": "Grad-CAM++",
    "gradeclip": "Grad-ECLIP",
    "gradient": "gradient",
    "gradient_rollout": "gradient rollout",
    "gradsam": "Grad-SAM",
    "groupcam": "Group-CAM",
    "gscorecam": "gScore-CAM",
    "guidedbp": "guided backprop",
    "guidedgradcam": "Guided Grad-CAM",
    "hirescam": "HiResCAM",
    "hsic": "HSIC",
    "iba": "IBA",
    "iia": "IIA",
    "inputxgradient": "input × gradient",
    "integrated_gradcam": "Integrated Grad-CAM",
    "integrated_gradients": "integrated gradients",
    "iscam": "IS-CAM",
    "kernelshap": "KernelSHAP",
    "kpcacam": "KPCA-CAM",
    "lafam": "LaFAM",
    "layercam": "Layer-CAM",
    "legrad": "LeGrad",
    "legrad_times_attention": "LeGrad × attention",
    "lift_elementwise": "LIFT-CAM (elementwise)",
    "liftcam": "LIFT-CAM",
    "lime": "LIME",
    "limecam": "LIME-CAM",
    "lrp_alpha1_beta0": "LRP-α1β0",
    "lrp_alpha_beta": "LRP-α2β1",
    "lrp_epsilon": "LRP-ε",
    "lrp_gamma": "LRP-γ",
    "lrpcam": "LRP-CAM",
    "normgrad": "NormGrad",
    "occlusion": "occlusion",
    "opticam": "Opti-CAM",
    "polycam": "Poly-CAM",
    "polycam_minus": "Poly-CAM−",
    "polycam_plus": "Poly-CAM+",
    "raw_attention": "raw attention",
    "reciprocam": "Recipro-CAM",
    "refinecam": "RefineCAM",
    "relevancecam": "Relevance-CAM",
    "rise": "RISE",
    "rollout": "rollout",
    "rsi_gradcam": "RSI-Grad-CAM",
    "scorecam": "Score-CAM",
    "seen_only": "seen only",
    "segeigencam": "Seg-Eigen-CAM",
    "sess": "SESS",
    "shapcam": "SHAP-CAM",
    "shapleycam": "Shapley-CAM",
    "shapleycam_e": "Shapley-CAM-E",
    "shapleycam_hires": "Shapley-CAM-HiRes",
    "shapleycam_mean": "Shapley-CAM-Mean",
    "shapleycam_x": "Shapley-CAM-X",
    "simple_fullgrad": "Simple FullGrad",
    "sise": "SISE",
    "smoe": "SMOE Scale",
    "smooth_gradcampp": "Smooth Grad-CAM++",
    "smoothgrad": "SmoothGrad",
    "sobol": "Sobol",
    "squaregrad": "SmoothGrad-Squared",
    "sscam": "SS-CAM",
    "tam": "TAM",
    "tis": "TIS",
    "tokentm": "TokenTM",
    "transformer_attribution": "transformer attribution",
    "unseen_only": "unseen only",
    "vargrad": "VarGrad",
    "vit_reciprocam": "ViT-ReciproCAM",
    "vitcx": "ViT-CX",
    "winsorcam": "Winsor-CAM",
    "xgradcam": "XGrad-CAM",
    "xrai": "XRAI",
    "zoomcam": "Zoom-CAM",
}
WORDS = {"code": "as released", "l1": "L1", "l2": "L2", "rest": "ReST", "torchcam": "as in torchcam"}
FILTERS = {"sealed": "sealed {}", "conceptor": "Conceptor-{}"}


def called(name: str) -> str:
    """The published spelling of a registered name and its variant; a name that is not ours stays as it is.

    >>> called("gradcampp_authors"), called("sealed_rise_centred"), called("sess_hirescam"), called("mine.method")
    ('Grad-CAM++ (authors)', 'sealed RISE (centred)', 'SESS on HiResCAM', 'mine.method')
    """
    first, _, rest = name.partition("_")
    if first in FILTERS and rest:
        return FILTERS[first].format(called(rest))
    parts = name.split("_")
    for length in range(len(parts), 0, -1):
        if published := PUBLISHED.get("_".join(parts[:length])):
            more = "_".join(parts[length:])
            if more in PUBLISHED:
                return f"{published} on {PUBLISHED[more]}"
            return f"{published} ({WORDS.get(more, more.replace('_', ' '))})" if more else published
    return name
