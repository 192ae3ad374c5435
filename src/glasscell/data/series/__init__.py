"""Series: files, time axis, features, windows, baselines and evaluation.

Private but for what ``data`` exports, and :mod:`evaluation`.
"""
