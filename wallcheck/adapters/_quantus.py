"""Quantus: its explanation functions as methods, and leakage as a metric of Quantus.

An explanation function takes (model, inputs, targets) as arrays and gives attributions summed over colours, (B, 1, H, W).
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from wallcheck.adapters._captum import rules_for
from wallcheck.adapters._explainers import Library
from wallcheck.adapters._stand_in import library
from wallcheck.handed import one_value, seen
from wallcheck.metrics import named
from wallcheck.models import BlindNet, as_blind

OF_LAYERS = (
    "LayerGradCam", "GuidedGradCam", "LayerConductance", "LayerActivation", "InternalInfluence", "LayerGradientXActivation"
)  # fmt: skip


def ask(explain: object, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> np.ndarray:
    given = explain.keywords if isinstance(explain, partial) else {}
    more = {"gc_layer": layer} if given.get("method") in OF_LAYERS and "gc_layer" not in given else {}
    arrays = images.detach().cpu().numpy(), targets.cpu().numpy()
    with rules_for(model, str(given.get("method"))):
        return explain(model, *arrays, device=str(images.device), **more)


def every() -> dict[str, object]:
    """`quantus.explain` with each method of captum that it knows."""
    quantus = library("quantus", "quantus")
    grey = {"Control Var. Constant": dict(constant_value=1.0)}
    return {
        name: partial(quantus.explain, method=name, **grey.get(name, {}))
        for name in sorted(quantus.AVAILABLE_XAI_METHODS_CAPTUM)
    }


def _as_it_is(explain: object, model: nn.Module, layer: nn.Module) -> object:
    return explain


LIBRARY = Library("quantus", "quantus", lambda explain: None, _as_it_is, ask, _as_it_is, every)


class _OfWalls:
    """What the metric asks and answers; the rest is the base's, Quantus's own."""

    def __init__(self, net: BlindNet, metric: str = "leak_mass", abs: bool = False, normalise: bool = False, **more):
        more = dict(disable_warnings=True, display_progressbar=False) | more
        super().__init__(
            abs=abs, normalise=normalise, normalise_func=None, normalise_func_kwargs=None, return_aggregate=False,
            aggregate_func=np.mean, default_plot_func=None, **more,
        )  # fmt: skip
        self.net, self.metric = as_blind(net), named(metric)

    def __call__(
        self,
        model: nn.Module,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray | None = None,
        explain_func: Callable | None = None,
        explain_func_kwargs: dict | None = None,
        device: str | None = None,
        batch_size: int = 64,
        **more,
    ) -> list[float]:
        nothing = dict(s_batch=None, channel_first=True, model_predict_kwargs=None, softmax=False)
        given = dict(explain_func=explain_func, explain_func_kwargs=explain_func_kwargs, device=device)
        return super().__call__(
            model, x_batch, y_batch, a_batch=a_batch, batch_size=batch_size, **(nothing | given | more)
        )

    def evaluate_batch(self, x_batch, y_batch, a_batch, **_) -> list[float]:
        maps, _ = one_value(np.asarray(a_batch), len(x_batch), self.net.image_size)
        return seen(maps, self.net).leakage(self.metric).tolist()


@cache
def quantus_leakage() -> type:
    """Leakage as a metric of Quantus: a subclass of `quantus.Metric`, made when first asked for, since Quantus is optional.

        Leakage = wallcheck.adapters.quantus_leakage()
        score = Leakage(net)                                   # a BlindNet; metric="leak_mass"
        score(model=net.model, x_batch=x, y_batch=y, explain_func=quantus.explain, explain_func_kwargs={"method": "Saliency"})

    One value an image: the share of positive attribution where the net provably cannot see; NaN for an empty map. What a view added
    is kept out (`wallcheck.handed`). normalise and abs are off unless asked for, since both can make leakage of none. ImportError
    without Quantus.
    """
    library("quantus", "quantus")
    base: Any = library("quantus.metrics.base", "quantus").Metric
    enums = library("quantus.helpers.enums", "quantus")

    class Leakage(_OfWalls, base):
        """Positive attribution where the model provably cannot see: 0 is clean."""

        name = "Leakage"
        data_applicability = {enums.DataType.IMAGE}  # noqa: RUF012
        model_applicability = {enums.ModelType.TORCH}  # noqa: RUF012
        score_direction = enums.ScoreDirection.LOWER
        evaluation_category = enums.EvaluationCategory.LOCALISATION

    return Leakage
