"""Waiting of one thread for another, in compiled code and without the interpreter's lock.

No signal handler runs during such a wait: it cannot be interrupted.
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
    """Compiled functions of this module."""

    spin_until_changed: Callable[[Any, Any, int, int], bool]
    spin_until_zero: Callable[[Any, int], None]


@once_uninterrupted
def compile_wait() -> Waits:
    """Compile :func:`_spin_until_changed` and :func:`_spin_until_zero`, or read them from disk."""
    import numba  # noqa: PLC0415

    names = {
        "__name__": __name__,
        "_atomic_load": _make_atomic_load(),
        "_atomic_store_zero": _make_atomic_store_zero(),
        "_yield": _make_system_call("yield"),
        "_sleep": _make_system_call("sleep"),
    }
    integer, flags = numba.int64, numba.int64[::1]
    return Waits(
        jit_cached(_spin_until_changed, numba.boolean(flags, flags, integer, integer), names),
        jit_cached(_spin_until_zero, numba.void(flags, integer), names),
    )


def _spin_until_changed(flag, counts, last_count, spin_count):
    """Set the flag to 0; then return whether the first count changes from the last one within `spin_count` polls.

    The flag is cleared here, not earlier, because the thread that waits for it needs the interpreter's lock next, which
    this thread has released.
    """
    _atomic_store_zero(flag)
    for _ in range(spin_count):  # noqa: SIM110 - Numba has no any()
        if _atomic_load(counts) != last_count:
            return True
    return False


def _spin_until_zero(flags, spin_count):
    """Return when all flags are 0; yield the core after `spin_count` polls, sleep after twice as many."""
    for k in range(len(flags)):
        polls = 0
        while _atomic_load(flags[k:]) != 0:
            polls += 1
            if polls > 2 * spin_count:
                _sleep()
            elif polls > spin_count:
                _yield()


def _make_atomic_load() -> Any:
    """Return a compiled-code function that loads the first number of an int64 array atomically.

    It also contains the processor's hint for polling loops.
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


def _make_atomic_store_zero() -> Any:
    """Return a compiled-code function that sets the first number of an int64 array to 0, with release order."""
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


# Per platform: a system function that yields the core, and one that sleeps for tens of microseconds.
# Each returns 32 bits or nothing, and takes the arguments after its name.
SYSTEM_CALLS: dict[str, dict[str, tuple[str, list[int]]]] = {
    "win32": {"yield": ("SwitchToThread", []), "sleep": ("Sleep", [1])},
    "": {"yield": ("sched_yield", []), "sleep": ("usleep", [50])},
}


def _make_system_call(name: str) -> Any:
    """Return a compiled-code function that calls a function of the operating system."""
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    symbol, values = SYSTEM_CALLS.get(sys.platform, SYSTEM_CALLS[""])[name]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        integer = ir.IntType(32)
        kind = ir.FunctionType(integer, [integer] * len(values))
        builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), [integer(value) for value in values])
        return context.get_dummy_value()

    def typed(typing_context: Any) -> Any:  # noqa: ARG001
        return types.void(), generate

    return intrinsic(typed)
