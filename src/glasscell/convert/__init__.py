"""Read and write the model files of PyTorch, ONNX and Keras.

>>> import glasscell as gc
>>> model = gc.convert.load("model.onnx")  # doctest: +SKIP
>>> gc.convert.save(model, "model.keras")  # doctest: +SKIP

Functions and subpackages are imported when they are first used. Layouts of weights are in
:mod:`glasscell.weight_layouts`.
"""

from glasscell.lazy import attach

MODULES = ("files", "keras", "onnx", "torch")
FUNCTIONS = {"load": "files", "save": "files", "lstms": "layer_files", "weights": "layer_files"}
__getattr__, __dir__ = attach(__name__, FUNCTIONS | {name: name for name in MODULES})
