"""A network as one graph: exported, cut at a layer, walled, proved, run.

user's module --export--> graph --cut at a layer--> features | head --wall--> blind graph --proof--> what is unseen
                                                                                  |--> evidence, methods, net.model

export     module -> graph; what runs, hooks and all
cut        layers where the graph can be parted, and the grid of cells their output stands for
walls      head walls and trunk walls put into the graph; sides: each side of an image through the features apart; attention: tokens held to theirs
reach      which pixel can influence which logit, one rule per operation; proof: what follows for a wall
blind      the walled graph as it is run: its halves, and the quick way from the visible part of an image
lean, winograd, channels   the same values from less work
following  a graph followed operation by operation, each by a rule; rules: attribution rules per operation; stages: layers on the way; ordinary: a module for other libraries
attending  attention written out: weighing, each by itself; and the blocks around them
"""

from wallcheck.graph import reach, sides
from wallcheck.graph._precision import PRECISIONS, checked_precision
from wallcheck.graph._tracing import in_eval
from wallcheck.graph.blind import BlindGraph
from wallcheck.graph.cut import Form, Layer, layer_named, layers_of
from wallcheck.graph.export import Graph, NotOneGraph, exported, key_of, plainly
from wallcheck.graph.ordinary import ordinary
from wallcheck.graph.proof import Leak, Proof
from wallcheck.graph.walls import Walled, detached, with_head_wall

__all__ = [
    "PRECISIONS",
    "BlindGraph",
    "Form",
    "Graph",
    "Layer",
    "Leak",
    "NotOneGraph",
    "Proof",
    "Walled",
    "checked_precision",
    "detached",
    "exported",
    "in_eval",
    "key_of",
    "layer_named",
    "layers_of",
    "ordinary",
    "plainly",
    "reach",
    "sides",
    "with_head_wall",
]
