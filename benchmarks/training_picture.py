"""Draw the gates of a copy model during its training, for the README.

python benchmarks/training_picture.py docs/training.png
"""

import sys

import glasscell as gc

task = gc.tasks.Copy(width=8)
model = gc.CopyLSTM(hidden_size=32, task=task, seed=0)
recorder = gc.TraceRecorder([1, 1, 0, 1, 0, 1, 1, 0], every=20, symbols=["f", "c"])
recorder.capture_frame(model)
gc.fit(model, task, updates=3000, seed=0, callbacks=[recorder])
recorder.plot().savefig(sys.argv[1], dpi=110)
