"""The interactive HTML report of a trace."""
