"""Other projects' formats: gate orders, transpositions and bias conventions live here and nowhere else.

>>> import glasscell as gc
>>> model = gc.convert.load("model.onnx")  # doctest: +SKIP
>>> gc.convert.save(model, "model.keras")  # doctest: +SKIP

``codec`` says as data how others lay out the weights of an LSTM, and stands below the layers; ``load`` and ``save``
read and write whole files, and stand above the models. They, and the rooms of one project each, are imported when they
are asked for.
"""

from glasscell.lazy import lazily

MODULES = ("codec", "files", "keras", "onnx", "torch")
FUNCTIONS = {"load": "files", "save": "files", "lstms": "layer_files", "weights": "layer_files"}
__getattr__, __dir__ = lazily(__name__, FUNCTIONS | {name: name for name in MODULES})
