"""Long proofs that files, interruptions and illegal values do no harm: ``python benchmarks/torture``, ``make torture``.

Each script of this folder is one proof with its own options, and prints one line of a Markdown table per bar: what is
measured, the figure, the bound, and whether it holds. It exits with 1 if a bar is missed. The test suite has their
short forms.
"""
