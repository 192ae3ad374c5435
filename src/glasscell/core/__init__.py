"""Mathematics on arrays.

Imports the standard library, NumPy and ``glasscell.lazy``, nothing else; only ``numba_engine`` imports Numba, and
``blas_threads`` threadpoolctl. tests/test_architecture.py checks it.

Arrays here are feature-major: one step is a matrix of columns ``(features, B)``, a sequence is ``(T, features, B)``.
Read :mod:`~glasscell.core.cell` first.

Dimensions, by these letters in every module:

============  ==========================================================================
``T``         time steps
``B``         sequences of the batch; ``b`` those of one thread
``I``         inputs (features of x)
``H``         hidden units (features of c)
``P``         features of h: those of the projection, or ``H``
``O``         outputs of an affine map
``K``         ``H + I + 1``: columns of the kernel, for h_prev, x and the bias
``R``         rows of the kernel: ``H`` for each gate that exists, of a standard LSTM ``4H``
``L``, ``D``  layers, and directions (1 or 2)
``V``         classes
============  ==========================================================================
"""
