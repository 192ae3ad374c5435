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

from glasscell.core.numba_engine.jit_cache import jit_cached
from glasscell.core.uninterrupted import once_uninterrupted


class Waits(NamedTuple):
    """The compiled functions of this file."""

    for_change: Callable[[Any, Any, int, int], bool]
    for_zeros: Callable[[Any, int], None]


@once_uninterrupted
def compile_wait() -> Waits:
    """Compile :func:`_wait_for_change` and :func:`_wait_for_zeros`, or read them from disk."""
    import numba  # noqa: PLC0415

    names = {
        "__name__": __name__,
        "_look_at": _look(),
        "_put_zero": _put_zero_to(),
        "_yield": _of_system("yield"),
        "_sleep": _of_system("sleep"),
    }
    integer, flags = numba.int64, numba.int64[::1]
    return Waits(
        jit_cached(_wait_for_change, numba.boolean(flags, flags, integer, integer), names),
        jit_cached(_wait_for_zeros, numba.void(flags, integer), names),
    )


def _wait_for_change(flag, counts, known, patience):
    """Return whether the first count changes from the known one before patience ends; first set the flag to 0.

    Here, and not before: who waits for the flag needs the interpreter's lock next, which this thread no longer has.
    """
    _put_zero(flag)
    for _ in range(patience):  # noqa: SIM110 - Numba has no any()
        if _look_at(counts) != known:
            return True
    return False


def _wait_for_zeros(flags, patience):
    """Return when all flags are 0; the core is offered to others when patience ends, and left when it ends again."""
    for k in range(len(flags)):
        polls = 0
        while _look_at(flags[k:]) != 0:
            polls += 1
            if polls > 2 * patience:
                _sleep()
            elif polls > patience:
                _yield()


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


def _put_zero_to() -> Any:
    """Make a function for compiled code that sets the first number of an array of int64 to 0, after all else."""
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        builder.store_atomic(ir.IntType(64)(0), array.data, "release", 8)
        return context.get_dummy_value()

    def typed(typing_context: Any, flags: Any) -> Any:  # noqa: ARG001
        return types.void(flags), generate

    return intrinsic(typed)


# By platform: a function of the system that gives the core away for no time, and one for some tens of microseconds.
# Each has a result of 32 bits, or none, and the arguments that follow its name.
FUNCTIONS: dict[str, dict[str, tuple[str, list[int]]]] = {
    "win32": {"yield": ("SwitchToThread", []), "sleep": ("Sleep", [1])},
    "": {"yield": ("sched_yield", []), "sleep": ("usleep", [50])},
}


def _of_system(name: str) -> Any:
    """Make a function for compiled code that calls one of the operating system."""
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    symbol, values = FUNCTIONS.get(sys.platform, FUNCTIONS[""])[name]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        integer = ir.IntType(32)
        kind = ir.FunctionType(integer, [integer] * len(values))
        builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), [integer(value) for value in values])
        return context.get_dummy_value()

    def typed(typing_context: Any) -> Any:  # noqa: ARG001
        return types.void(), generate

    return intrinsic(typed)
