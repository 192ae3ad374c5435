"""Train a language model on a text, let it write, and measure how well it predicts.

    python examples/text.py [TEXT.txt]

Without a file, the text is generated: sentences of a small grammar. On a book, train longer (`epochs`) and use the
default sizes of `gc.LanguageModel`.
"""

import sys
from pathlib import Path

import numpy as np

import glasscell as gc

if len(sys.argv) > 1:
    data = gc.data.TextData.from_files(sys.argv[1], steps=32, streams=16, validation=0.1)
else:
    rng = np.random.default_rng(0)
    animals, verbs = ["cat", "dog", "hen", "cow"], ["sees", "likes", "follows"]
    sentences = [f"the {rng.choice(animals)} {rng.choice(verbs)} the {rng.choice(animals)}. " for _ in range(600)]
    data = gc.data.TextData("".join(sentences), steps=32, streams=16, validation=0.1)
print(data.vocabulary, data.description, sep="\n")

# Characters in, the distribution of the next character out. The state is carried from window to window.
model = gc.LanguageModel(data.vocabulary, embedding_size=16, hidden_size=48, num_layers=1, seed=0)
history = gc.fit(model, data, epochs=30, keep="best")
print(f"nats per character: {history['loss'][0]:.2f} in the first update,", end=" ")
print(f"{np.nanmin(history['validation_loss']):.2f} in validation at best")

# Let it write; `prompt="the cat"` would continue a text. A temperature below 1 makes likely characters more likely.
sample = ""
for character in model.sample(length=200, temperature=0.7, seed=1):
    print(character, end="", flush=True)
    sample += character
print()

# How surprising is a text? The perplexity is the number of equally likely characters to choose from.
for name, text in {"the sample": sample, "the same backwards": sample[::-1]}.items():
    print(f"{name}: perplexity {model.score(text).perplexity:.1f}")

Path("runs").mkdir(exist_ok=True)
model.save("runs/language_model.safetensors")  # with its vocabulary
loaded = gc.load("runs/language_model.safetensors")
