"""How one thread waits for another: in compiled code, without the interpreter's lock.

No handler of a signal runs during such a wait: it cannot be left before it is over.
"""

# Numba infers the types, and its own parts have no annotations.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, name-defined"
# ruff: noqa: F821

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from glasscell.core.compiled.keeping import compiled
from glasscell.core.uninterrupted import once_uninterrupted


class Waits(NamedTuple):
    """The compiled functions of this file."""

    for_change: Callable[[Any, int, int], bool]
    for_zeros: Callable[[Any, int], None]


@once_uninterrupted
def waiting() -> Waits:
    """Compile :func:`_wait_for_change` and :func:`_wait_for_zeros`, or read them from disk."""
    import numba  # noqa: PLC0415

    names = {"__name__": __name__, "_look_at": _look(), "_rest": _rest()}
    integer, flags = numba.int64, numba.int64[::1]
    return Waits(
        compiled(_wait_for_change, numba.boolean(flags, integer, integer), names),
        compiled(_wait_for_zeros, numba.void(flags, integer), names),
    )


def _wait_for_change(counts, known, patience):
    """Whether the first count becomes another one than is known, before patience ends."""
    for _ in range(patience):  # noqa: SIM110 - Numba has no any()
        if _look_at(counts) != known:
            return True
    return False


def _wait_for_zeros(flags, patience):
    """Return when all flags are 0; the core is left to others when patience ends."""
    for k in range(len(flags)):
        polls = 0
        while _look_at(flags[k:]) != 0:
            polls += 1
            if polls > patience:
                _rest()


def _look() -> Any:
    """Make a function for compiled code that reads the first number of an array of int64, as other threads leave it.

    It also tells the processor that this is a polling loop.
    """
    from llvmlite import binding, ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if binding.get_default_triple().startswith("x86_64"):
            pause = builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), ir.FunctionType(ir.VoidType(), ()))
            builder.call(pause, ())
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "acquire", 8)

    def typed(typing_context: Any, counts: Any) -> Any:  # noqa: ARG001
        return types.int64(counts), generate

    return intrinsic(typed)


def _rest() -> Any:
    """Make a function for compiled code that sleeps for some tens of microseconds, or until a signal comes."""
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    name, time = ("Sleep", 0) if sys.platform == "win32" else ("usleep", 50)  # 0: the rest of its turn

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        integer = ir.IntType(32)
        result = ir.VoidType() if sys.platform == "win32" else integer
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [integer]), name)
        builder.call(function, [integer(time)])
        return context.get_dummy_value()

    def typed(typing_context: Any) -> Any:  # noqa: ARG001
        return types.void(), generate

    return intrinsic(typed)
