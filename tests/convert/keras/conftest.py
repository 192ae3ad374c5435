"""Fixtures of the tests of Keras files."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="session")
def h5py():
    return pytest.importorskip("h5py", reason="files of Keras are made with h5py")


@pytest.fixture(scope="session")
def old_file(h5py):
    """Return a function that writes an .h5 file in the format of Keras 2.

    Of layers, each its class and configuration, and the weights of each layer by name.
    """

    def old_file(path, layers, weights, version="2.2.4"):
        listed = [{"class_name": kind, "config": config} for kind, config in layers]
        with h5py.File(path, "w") as file:
            model = {"class_name": "Sequential", "config": {"name": "s", "layers": listed}}
            file.attrs.update({"keras_version": version, "backend": "tensorflow", "model_config": json.dumps(model)})
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = np.array([config["name"].encode() for _, config in layers])
            for _, config in layers:
                of_layer = weights.get(config["name"], {})
                below = group.create_group(config["name"])
                below.attrs["weight_names"] = np.array([f"{config['name']}/{name}:0".encode() for name in of_layer])
                for name, array in of_layer.items():
                    below[f"{config['name']}/{name}:0"] = array
        return path

    return old_file
