"""Fine-tune a Keras model without Keras: load its file, replace its last layer, train that, then all; write it back.

    python examples/finetune_keras.py [MODEL.keras]

MODEL.keras is a Sequential model that ends with a Dense layer. If none is passed, one is made. Only making it, and the
last lines, need Keras; reading and writing the file needs `pip install h5py`.
"""

import copy
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import glasscell as gc

folder = Path(tempfile.mkdtemp())
if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:  # stands for a model that you have trained in Keras: 3 features, 2 classes
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((10, 3)), keras.layers.LSTM(16, name="encoder"), keras.layers.Dense(2, name="head")]
    path = folder / "pretrained.keras"
    keras.Sequential(layers).save(path)

pretrained = gc.convert.load(path)
print(pretrained.summary())  # its layers have the names of the Keras layers

# All layers but the last, and a new head for three classes. A layer belongs to one model, hence the copies.
body, head = pretrained.layers[:-1], pretrained.layers[-1]
model = gc.Sequential(
    [*map(copy.deepcopy, body), gc.Linear(head.input_size, 3)], names=[*pretrained.names[:-1], "new_head"]
)

# Our data: which of the first three features has the largest sum?
rng = np.random.default_rng(0)
x = rng.normal(size=(300, 10, body[0].input_size)).astype("float32")
y = x[:, :, :3].sum(axis=1).argmax(axis=1)
options = {"loss": "categorical_cross_entropy", "metrics": ["accuracy"], "validation": 0.2}

before = {name: array.copy() for name, array in model.parameters.items()}
head_only = gc.fit(model, (x, y), epochs=10, trainable=["new_head.*"], optimizer=gc.Adam(0.02), **options)
after = {name: array.copy() for name, array in model.parameters.items()}
print("changed by the first fit:", [name for name in after if not np.array_equal(after[name], before[name])])

# Now all weights; those of the body with a tenth of the learning rate.
factors = {name: 0.1 for name in model.parameters if not name.startswith("new_head")}
all_weights = gc.fit(model, (x, y), epochs=30, learning_rates=factors, optimizer=gc.Adam(0.02), **options)
print("accuracy:", head_only["validation_accuracy"][-1], "with the head,", all_weights["validation_accuracy"][-1])

# Back to Keras.
gc.convert.save(model, folder / "tuned.keras")
tuned = keras.saving.load_model(folder / "tuned.keras")
print("largest difference of the outputs:", np.abs(tuned.predict(x, verbose=0) - model.predict(x)).max())
