"""A graph of ONNX that is a chain of layers, as a model.

``reader`` follows the graph's nodes in order, with what each value is to the chain (``views``): which layer it is the
output of, and what its axes are. ``functions``, ``layer_nodes``, ``lstm_nodes`` and ``moves`` say so for each operator,
``constants`` and ``folding`` compute what depends on no input, and ``assembly`` makes layers of the plans.
"""

from glasscell.convert.onnx.importer.graph import interface_of, load
from glasscell.convert.onnx.importer.lstms import lstms

__all__ = ["interface_of", "load", "lstms"]
