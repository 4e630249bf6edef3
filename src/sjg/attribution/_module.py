"""Running somebody's network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sjg.core import InputError


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode, no parameter gradients, autograd on; everything is put back on leaving, also after an error.

    Batch normalisation uses its stored statistics, dropout is off, and ``parameter.grad`` is never written.
    """
    training = {module: module.training for module in model.modules()}
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval()
        for parameter in requires_grad:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield model
    finally:
        # Module by module: model.train() would wake submodules that the user froze on purpose.
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in requires_grad.items():
            parameter.requires_grad_(flag)


def check_inputs(inputs: Tensor, *, grid_px: int) -> Tensor:
    """A copy of `inputs` detached from the caller's graph."""
    if inputs.ndim != 4 or inputs.numel() == 0 or not inputs.is_floating_point():
        raise InputError(f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}; give a floating point (B, C, H, W) tensor.")
    if not bool(torch.isfinite(inputs).all()):
        raise InputError("inputs has values that are not finite; mend them before the attribution.")
    height, width = inputs.shape[-2:]
    if isinstance(grid_px, bool) or not isinstance(grid_px, int) or grid_px < 1 or height % grid_px or width % grid_px:
        valid = [g for g in range(1, min(height, width) + 1) if height % g == 0 and width % g == 0]
        raise InputError(f"grid_px is {grid_px}; it must divide the patch of {height} x {width} px: one of {valid}.")
    with torch.inference_mode(False):  # a tensor made in inference mode could not record gradients
        return inputs.detach().clone()


def target_map(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """(B, H, W) logits of one class, checked."""
    return channel(run(model, inputs), target)


def run(model: nn.Module, inputs: Tensor) -> Tensor:
    """(B, K, H, W) finite logits."""
    logits = model(inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[0] != inputs.shape[0]:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model returned {got} for inputs {tuple(inputs.shape)}; it must return logits (B, K, H, W).")
    if not bool(torch.isfinite(logits.detach()).all()):
        raise InputError("the model returned logits that are not finite; attribution would be meaningless.")
    return logits


def run_from_leaf(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf with the values of `inputs` and (B, K, H, W) finite logits of it.

    On a CPU the leaf has its channels last in memory: backward passes through convolutions take about two thirds of the time.
    """
    if inputs.device.type == "cpu":
        try:
            leaf = inputs.contiguous(memory_format=torch.channels_last).requires_grad_()
            return leaf, run(model, leaf)
        except RuntimeError:
            # Tensor.view in a model needs the usual order; an error of another kind comes again below.
            pass
    leaf = inputs.requires_grad_()
    return leaf, run(model, leaf)


def channel(logits: Tensor, target: int) -> Tensor:
    """(B, H, W) logits of class `target`."""
    n_classes = logits.shape[1]
    if not isinstance(target, (int, np.integer)) or isinstance(target, bool):
        raise InputError(f"target is {target!r}; give the index of a class, 0..{n_classes - 1}.")
    if not 0 <= target < n_classes:
        raise InputError(f"target is {target}; the model has {n_classes} classes, valid are 0..{n_classes - 1}.")
    return logits[:, target]


def as_targets(target: int | Sequence[int]) -> tuple[list[int], bool]:
    """Targets as a list, and whether several were asked for."""
    return (list(target), True) if isinstance(target, Sequence) else ([target], False)


def check_count(name: str, value: int) -> None:
    """`value` must be a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; give an integer >= 1.")


def fresh_generator(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, or a new one seeded by the operating system; torch's global state is never used."""
    if generator is not None:
        return generator
    generator = torch.Generator()
    generator.seed()
    return generator
