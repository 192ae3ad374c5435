"""A model as a graph of ONNX."""

from glasscell.convert.onnx.exporter.writer import save, to_model

__all__ = ["save", "to_model"]
