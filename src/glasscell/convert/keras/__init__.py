"""Model files of Keras, read and written without Keras: ``.keras``, ``.weights.h5`` and the older ``.h5``."""

from glasscell.convert.keras.files import load, save

__all__ = ["load", "save"]
