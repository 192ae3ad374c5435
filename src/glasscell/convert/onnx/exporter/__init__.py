"""Export models as ONNX graphs."""

from glasscell.convert.onnx.exporter.model import save, to_model

__all__ = ["save", "to_model"]
