"""Compiled functions, cached on disk: only the first run compiles."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from glasscell.core.uninterrupted import once_uninterrupted


def jit_cached(
    function: Callable[..., Any],
    signature: Any = None,
    names: Mapping[str, Any] | None = None,
    *,
    nogil: bool = True,
    allow_fma: bool = False,
) -> Any:
    """Compile a function.

    Parameters
    ----------
    function : function
    signature : numba signature, optional
        Default: no explicit signature; the function is compiled into its compiled callers.
    names : mapping, optional
        Its global names. Default: those of its module.
    nogil : bool
        Whether it releases the interpreter's lock.
    allow_fma : bool
        Whether a·b + c may become one fused instruction. Everything else follows IEEE 754, including NaN and
        infinities.
    """
    import numba  # noqa: PLC0415 - takes a third of a second

    name = f"{function.__name__}_{_cache_key()}"
    code = function.__code__.replace(co_name=name, co_qualname=name)
    names = function.__globals__ if names is None else names
    renamed = FunctionType(code, dict(names), name, closure=function.__closure__)
    fastmath: Any = {"contract"} if allow_fma else False
    # NumPy's error model: LLVM does not vectorise divisions that may raise ZeroDivisionError.
    jit: Any = partial(numba.njit, nogil=nogil, fastmath=fastmath, error_model="numpy")
    return jit()(renamed) if signature is None else _load_or_compile(jit, renamed, signature)


@once_uninterrupted
def compile_update(function: Callable[..., None], char: str, modes: str, num_numbers: int) -> Callable[..., None]:
    """Compile the update of an optimiser for a dtype character, or load it from disk.

    Parameters
    ----------
    function : function
        Of contiguous vectors, then numbers.
    char : str
    modes : str
        For each vector "r" if it is only read, "w" if it is written.
    num_numbers : int
    """
    import numba  # noqa: PLC0415 - takes a third of a second

    number: Any = numba.from_dtype(np.dtype(char))
    vectors = [numba.types.Array(number, 1, "C", readonly=mode == "r") for mode in modes]
    update: Callable[..., None] = jit_cached(function, numba.void(*vectors, *[number] * num_numbers))
    return update


def _load_or_compile(jit: Any, function: FunctionType, signature: Any) -> Any:
    """Load the function from disk, or compile it; errors of the disk never prevent compilation.

    Damaged files are replaced. If that fails (no writable folder, full disk), the next process compiles again.
    """
    for damaged in (False, True):
        with suppress(Exception):  # a damaged pickle may raise anything, which Numba does not catch
            cached = jit(cache=True)(function)
            if damaged:
                cached._cache.flush()  # noqa: SLF001 - no public name
            try:
                cached.compile(signature)
            except OSError:
                if not cached.signatures:
                    raise
            cached.disable_compile()
            return cached
    return jit(signature)(function)


@cache
def _cache_key() -> str:
    """Return a key that changes with any file of this package; Numba's own key covers the function's file only."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
