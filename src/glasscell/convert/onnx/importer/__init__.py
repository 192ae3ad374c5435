"""Import ONNX graphs of layers as models.

``graph`` reads the nodes in order and represents each value by the layer that computes it and its axes
(``symbolic_values``); ``graph_interface`` finds the inputs and outputs. ``layer_ops``, ``lstm_ops``, ``affine``,
``windows``, ``elementwise_ops``, ``pointwise``, ``selection`` and ``shape_ops`` represent the operators;
``constants`` and ``constant_folding`` evaluate nodes that depend on no input; ``build_model`` builds the layers from
``layer_specs``. ``lstms`` reads single LSTM nodes of any graph.
"""

from glasscell.convert.onnx.importer.graph import interface_of, load
from glasscell.convert.onnx.importer.lstms import lstms

__all__ = ["interface_of", "load", "lstms"]
