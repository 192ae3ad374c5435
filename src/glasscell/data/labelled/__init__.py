"""Labelled sequences: readers of ``.csv``, ``.npz`` and ``.ts`` files, and scores.

Private but for what ``data`` exports.
"""
