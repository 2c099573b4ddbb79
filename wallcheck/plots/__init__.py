"""Figures from rows, kept examples and training logs; no model is ever seen.

Each function takes data and returns a matplotlib Figure that belongs to nobody: no window, no global state.
`save` writes one as PDF and PNG. A method has one colour and marker in all of them, its family's or its own, so that a figure is read in grey too.
"""

from wallcheck.plots._style import FAMILY, SETS, Look, family_of, in_order, look, marks, save
from wallcheck.plots.blindness import blindness
from wallcheck.plots.changes import paired_changes
from wallcheck.plots.conceptor import conceptor_gains
from wallcheck.plots.dependence import dependence
from wallcheck.plots.devices import devices
from wallcheck.plots.distributions import controls, leakage
from wallcheck.plots.gradients import gradients
from wallcheck.plots.overview import families, sources
from wallcheck.plots.pareto import PARETO, pareto, undominated
from wallcheck.plots.peers import peers
from wallcheck.plots.pictures import HEAT, Examples, gallery, main_figure
from wallcheck.plots.prediction import prediction
from wallcheck.plots.quadrants import aggregated
from wallcheck.plots.randomisation import randomisation
from wallcheck.plots.ranks import ranks
from wallcheck.plots.repairs import repairs
from wallcheck.plots.scale import scale
from wallcheck.plots.shap import shap_agreement
from wallcheck.plots.training import read_training, training
from wallcheck.plots.two_sided import two_sided
from wallcheck.plots.zoo import zoo

__all__ = [
    "FAMILY",
    "HEAT",
    "PARETO",
    "SETS",
    "Examples",
    "Look",
    "aggregated",
    "blindness",
    "conceptor_gains",
    "controls",
    "dependence",
    "devices",
    "families",
    "family_of",
    "gallery",
    "gradients",
    "in_order",
    "leakage",
    "look",
    "main_figure",
    "marks",
    "paired_changes",
    "pareto",
    "peers",
    "prediction",
    "randomisation",
    "ranks",
    "read_training",
    "repairs",
    "save",
    "scale",
    "shap_agreement",
    "sources",
    "training",
    "two_sided",
    "undominated",
    "zoo",
]
