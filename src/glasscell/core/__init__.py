"""The mathematics. Imports NumPy only; knows nothing of files, tasks or plots.

Arrays here are feature-major: one step is a matrix of columns ``(features, B)``, a sequence is ``(T, features, B)``.
Read :mod:`~glasscell.core.cell` first.
"""
