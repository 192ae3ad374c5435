"""Explanations of a trained model: interventions, attribution, dynamics, and what it does over a data set."""

from glasscell.lazy import attach

__all__: list[str] = []

__getattr__, __dir__ = attach(__name__, {})
