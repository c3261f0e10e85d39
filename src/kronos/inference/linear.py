"""A linear map in the layout that suits the number of rows.

The same product runs at very different speeds: a single row only reads the weights, which is fastest where they are
stored input by output; several rows compute, which is fastest where they are packed for oneDNN, several times faster
than the plain product for 5 rows and still faster for thousands. Activation, gate and residual then come for free
with the product. Each layout is made when it is first needed (docs/performance.md has the measurements).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_PACKED_FOR = 32  # rows that the packing is chosen for; it serves larger products as well


class Linear:
    """``x W + b`` over the last dimension.

    Args:
        weight: (outputs, inputs), as torch keeps it.
        bias: (outputs,) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.detach()
        self._dtype = dtype
        self.outputs, self.inputs = weight.shape
        self.bias = None if bias is None else bias.detach().to(dtype).contiguous()

    @cached_property
    def by_input(self) -> Tensor:
        """(outputs, inputs) stored input by input."""
        return self.weight.T.to(self._dtype).contiguous().T

    @cached_property
    def packed(self) -> Tensor | None:
        """Packed for oneDNN; None where this build, device or dtype has no such product."""
        if self.weight.device.type != "cpu":
            return None
        try:
            weight = self.weight.to(self._dtype).contiguous()
            return _onednn()._reorder_linear_weight(weight, _PACKED_FOR)  # type: ignore[no-any-return]
        except (AttributeError, RuntimeError):
            return None

    def __call__(self, x: Tensor) -> Tensor:
        if self._one_row(x):
            vector = x.reshape(-1)
            out = (
                torch.mv(self.by_input, vector) if self.bias is None else torch.addmv(self.bias, self.by_input, vector)
            )
            return out.view(*x.shape[:-1], self.outputs)
        if self.packed is not None:
            return _onednn()._linear_pointwise(x, self.packed, self.bias, "none", [], "")  # type: ignore[no-any-return]
        return F.linear(x, self.by_input, self.bias)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """``residual + x W + b``."""
        if self._one_row(x):
            out = torch.addmv(residual.reshape(-1), self.by_input, x.reshape(-1))
            return (out if self.bias is None else out.add_(self.bias)).view(residual.shape)
        if self.packed is not None:
            return self._with(x, residual, "add")
        return residual + self(x)

    def silu(self, x: Tensor) -> Tensor:
        """``silu(x W + b)``."""
        if not self._one_row(x) and self.packed is not None:
            return _onednn()._linear_pointwise(x, self.packed, self.bias, "swish", [], "")  # type: ignore[no-any-return]
        return F.silu(self(x))

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """``factor * (x W + b)``."""
        if not self._one_row(x) and self.packed is not None:
            return self._with(x, factor, "mul")
        return self(x).mul_(factor)

    def _with(self, x: Tensor, other: Tensor, operation: str) -> Tensor:
        rows = other.reshape(-1, self.outputs)
        out = _onednn()._linear_pointwise.binary(x.reshape(-1, self.inputs), rows, self.packed, self.bias, operation)
        return out.view(other.shape)  # type: ignore[no-any-return]

    def _one_row(self, x: Tensor) -> bool:
        return x.numel() == self.inputs and x.device.type == "cpu"


def _onednn() -> Any:
    return torch.ops.mkldnn
