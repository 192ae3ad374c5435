"""Mutated files: seed files of every kind, mutations of their bytes and their structure, and one measured read."""
