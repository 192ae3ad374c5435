"""Record how gates and gradients change during training, and show it."""
