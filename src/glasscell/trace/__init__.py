"""Seeing: what happened inside a model, as pictures."""
