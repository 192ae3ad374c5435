"""SIMD vectors of a compiled function, with the operations that formulas use."""

# Numba's internals have no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Formula = Callable[..., "tuple[Vector, ...]"]


class Vector:
    """SIMD vector in a register of the compiled program, with the operations of formulas.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    value : llvmlite.ir.Value
        A value of a vector type.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def broadcast_like(self, other: Vector | float) -> Any:
        """Return the value of the other operand; a number is broadcast to a vector."""
        from llvmlite import ir  # noqa: PLC0415 - Numba's, and so optional

        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.value.type.count)

    def __add__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, self.broadcast_like(other), flags=("contract",)))

    def __sub__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, self.broadcast_like(other), flags=("contract",)))

    def __rsub__(self, other: float) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.broadcast_like(other), self.value, flags=("contract",)))

    def __mul__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, self.broadcast_like(other), flags=("contract",)))

    def multiply_rounded(self, other: Vector) -> Vector:
        """Multiply and round: the product is never fused with an addition."""
        return Vector(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.value, self.broadcast_like(other)))

    def __rtruediv__(self, other: float) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.broadcast_like(other), self.value))

    def clip_above(self, bound: float) -> Vector:
        """Replace numbers above the bound by it; keep NaN."""
        limit = self.broadcast_like(bound)
        return Vector(self.builder, self.builder.select(self._compare(">", limit), limit, self.value))

    def clip_below(self, bound: float) -> Vector:
        """Replace numbers below the bound by it; keep NaN."""
        limit = self.broadcast_like(bound)
        return Vector(self.builder, self.builder.select(self._compare("<", limit), limit, self.value))

    def _compare(self, operator: str, limit: Any) -> Any:
        return self.builder.fcmp_ordered(operator, self.value, limit)

    def abs(self) -> Vector:
        """Return the absolute values."""
        bits, sign = self._bits(), self._sign()
        return self._from_bits(self.builder.and_(bits, self.builder.not_(sign)))

    def copysign(self, other: Vector) -> Vector:
        """Return these numbers, which must not be negative, with the signs of the other vector."""
        sign = self.builder.and_(other._bits(), self._sign())
        return self._from_bits(self.builder.or_(self._bits(), sign))

    def power_of_two(self) -> Vector:
        """Return powers of two whose biased exponents are the last bits of these numbers."""
        from llvmlite import ir  # noqa: PLC0415

        bits = self._bits()
        _, digits = self._format()
        return self._from_bits(self.builder.shl(bits, ir.Constant(bits.type, [digits] * bits.type.count)))

    def _format(self) -> tuple[int, int]:
        """Return the number of bits of a number and of its significand."""
        from llvmlite import ir  # noqa: PLC0415

        return (32, 23) if self.value.type.element == ir.FloatType() else (64, 52)

    def _bits(self) -> Any:
        from llvmlite import ir  # noqa: PLC0415

        size, _ = self._format()
        return self.builder.bitcast(self.value, ir.VectorType(ir.IntType(size), self.value.type.count))

    def _from_bits(self, bits: Any) -> Vector:
        return Vector(self.builder, self.builder.bitcast(bits, self.value.type))

    def _sign(self) -> Any:
        from llvmlite import ir  # noqa: PLC0415

        size, _ = self._format()
        return ir.Constant(self._bits().type, [1 << (size - 1)] * self.value.type.count)
