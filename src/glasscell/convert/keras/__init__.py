"""Model files of Keras, read and written without Keras: ``.keras``, ``.weights.h5`` and the older ``.h5``."""

from glasscell.convert.keras.files import is_weights_alone, layers_of, load, lstms, save

__all__ = ["is_weights_alone", "layers_of", "load", "lstms", "save"]
