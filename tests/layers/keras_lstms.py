"""Read layers of Keras as LSTMs."""

from glasscell import LSTM
from glasscell.weight_layouts.keras import KERAS_FUNCTIONS

ACTIVATIONS = list(KERAS_FUNCTIONS)


def lstm_of(layer):
    """Ours, from what the Keras layer tells of itself."""
    if "merge_mode" not in layer.get_config():
        return LSTM.from_keras(layer.get_weights(), **layer.get_config())
    config = layer.forward_layer.get_config()
    return LSTM.from_keras(layer.get_weights(), bidirectional=layer.merge_mode, **config)
