"""Glasscell: an LSTM you can see through, from scratch in NumPy."""
