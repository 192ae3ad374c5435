"""Fine-tune a model of PyTorch: load its weights, replace its head, train the head, then all weights.

    python examples/finetune_pytorch.py [MODEL.pt]

MODEL.pt is a state dict with an `nn.LSTM` named `lstm` and an `nn.Linear` named `head`, on the final hidden state. If
none is passed, one is made. The script uses PyTorch to make it, and to load the result in the last lines; the training
does not use it.
"""

import copy
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import glasscell as gc

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:  # stands for a model that you have trained in PyTorch: 3 features, 2 classes
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 16, batch_first=True), "head": torch.nn.Linear(16, 2)})
    path = Path(tempfile.mkdtemp()) / "pretrained.pt"
    torch.save(module.state_dict(), path)

# Weights do not say what is computed with them: the architecture does, in the order of computation.
pretrained = gc.convert.load(path, architecture="lstm,final,head")
lstm, final, head = pretrained.layers

# The body with a new head, for the three classes of our data. A layer belongs to one model, hence the copies.
model = gc.Sequential(
    [copy.deepcopy(lstm), copy.deepcopy(final), gc.Linear(head.input_size, 3)], names=["lstm", "final", "head"]
)

# Our data: which of the first three features has the largest sum?
rng = np.random.default_rng(0)
x = rng.normal(size=(300, 10, lstm.input_size)).astype("float32")
y = x[:, :, :3].sum(axis=1).argmax(axis=1)
options = {"loss": "categorical_cross_entropy", "metrics": ["accuracy"], "validation": 0.2}

before = {name: array.copy() for name, array in model.parameters.items()}
head_only = gc.fit(model, (x, y), epochs=10, trainable=["head.*"], optimizer=gc.Adam(0.02), **options)
after = {name: array.copy() for name, array in model.parameters.items()}
print("changed by the first fit:", [name for name in after if not np.array_equal(after[name], before[name])])

# Now all weights; those of the body with a tenth of the learning rate.
all_weights = gc.fit(model, (x, y), epochs=30, learning_rates={"lstm.*": 0.1}, optimizer=gc.Adam(0.02), **options)
print("accuracy:", head_only["validation_accuracy"][-1], "with the head,", all_weights["validation_accuracy"][-1])

# Back to PyTorch.
state_dict = {name: torch.tensor(array) for name, array in model.to_torch().items()}
tuned = torch.nn.ModuleDict(
    {"lstm": torch.nn.LSTM(lstm.input_size, 16, batch_first=True), "head": torch.nn.Linear(16, 3)}
)
tuned.load_state_dict(state_dict)
