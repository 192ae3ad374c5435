"""Compiled functions, kept on disk, so that only the first run ever compiles."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any


def jit_cached(
    function: Callable[..., Any],
    signature: Any = None,
    names: Mapping[str, Any] | None = None,
    *,
    nogil: bool = True,
    contract: bool = False,
) -> Any:
    """Compile a function.

    Parameters
    ----------
    function : function
    signature : numba signature, optional
        Default: the function is for other compiled ones, and compiled with them.
    names : mapping, optional
        What its global names mean; by default, what they mean in its module.
    nogil : bool
        Whether it gives up the interpreter's lock.
    contract : bool
        Whether any a·b + c may be one instruction. All else is as IEEE says, NaN and infinities too.
    """
    import numba  # noqa: PLC0415 - takes a third of a second

    name = f"{function.__name__}_{_cache_key()}"
    code = function.__code__.replace(co_name=name, co_qualname=name)
    names = function.__globals__ if names is None else names
    renamed = FunctionType(code, dict(names), name, closure=function.__closure__)
    fastmath: Any = {"contract"} if contract else False
    # With NumPy's errors, since LLVM vectorises nothing that may raise one when it divides by 0.
    jit: Any = partial(numba.njit, nogil=nogil, fastmath=fastmath, error_model="numpy")
    return jit()(renamed) if signature is None else _read_or_compiled(jit, renamed, signature)


def _read_or_compiled(jit: Any, function: FunctionType, signature: Any) -> Any:
    """Compile the function, or read it from disk; whatever is wrong with the disk, it is compiled.

    Files that are damaged are written again. Where that fails, too, the next process compiles again: no folder may be
    written, or the disk is full.
    """
    for damaged in (False, True):
        with suppress(Exception):  # of reading: what is in a damaged pickle may raise anything. Numba lets it through
            kept = jit(cache=True)(function)
            if damaged:
                kept._cache.flush()  # noqa: SLF001 - there is no public name for it
            try:
                kept.compile(signature)
            except OSError:
                if not kept.signatures:
                    raise
            kept.disable_compile()
            return kept
    return jit(signature)(function)


@cache
def _cache_key() -> str:
    """Return a key that changes with any file of this package: Numba's cache knows the file of the function alone."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
