"""Forward passes that begin where an earlier one ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.evaluation import evaluation
from shvit_pl.deploy.traffic import tensors_in
from shvit_pl.errors import UserError


class Trunk:
    """The part of a forward pass that is computed once, and the passes that go on from there.

    It is a list of the calls of modules in the order in which they began. A call that has ended stands there with its
    output, in place of all the calls that it made; one that has not stands before those that it has made so far. A pass
    runs the model's own code, and every call in the list that has ended is answered with its output. So whatever is
    between modules is computed again, and all results are those of a whole pass, bit by bit.

    Args:
        model: Any network whose passes over the same images call the same modules; it is run in evaluation mode, and
            is as it was after every pass.
        images: `(B, 3, S, S)`, the same for all passes.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._model, self._images = model, images
        self._calls: list[_Call] = []

    def extend(self, until: nn.Module) -> None:
        """Go on from where the trunk ends to the next call of the module `until`, which is the trunk's new end.

        Raises:
            ValueError: where the model comes to its end before.
        """
        try:
            self._run(_Pass(self._calls, until))
        except _Reached:
            return
        raise ValueError(f"the model does not call {type(until).__name__} again")

    def go_on(self) -> Tensor:
        """A whole pass from where the trunk ends: the model's output."""
        return self._run(_Pass(self._calls))

    def _run(self, calls: _Pass) -> Tensor:
        with evaluation(self._model), _instead_of_forward(self._model, calls):
            return self._model(self._images)


class _Output:
    """The output of a call, and a copy for when it has been changed in place."""

    def __init__(self, output: Tensor) -> None:
        self._output, self._version, self._copy = output, _version(output), output.clone()

    def again(self) -> Tensor:
        """The same output: itself, or a copy where somebody has written into it since."""
        return self._output if _version(self._output) == self._version else self._copy.clone()


@dataclass(frozen=True)
class _Call:
    """A call of a module; without an output, it has not ended, or it is to be made again."""

    module: nn.Module
    output: _Output | None = None


class _Reached(Exception):
    """The module that a pass was to end at is called."""


class _Pass:
    """One forward pass: it answers the calls that are known, and notes the others where it is to end at a module."""

    def __init__(self, calls: list[_Call], until: nn.Module | None = None) -> None:
        self._calls = calls
        self._until = until
        self._next = 0

    def call(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Called in place of every module's `forward`."""
        number = self._next
        self._next += 1
        if number < len(self._calls):
            known = self._calls[number]
            if known.module is not module:
                raise UserError(
                    f"{type(module).__name__}: called in another order than before, so no pass can begin there."
                )
            if known.output is not None:
                return known.output.again()
        if self._until is None:
            return forward(*args, **kwargs)
        if number == len(self._calls):
            if module is self._until:
                raise _Reached
            self._calls.append(_Call(module))
        return self._noted(number, forward, args, kwargs)

    def _noted(self, number: int, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [(tensor, _version(tensor)) for tensor in tensors_in([args, kwargs])]
        output = forward(*args, **kwargs)
        if isinstance(output, Tensor) and _can_be_answered(output, given):
            self._calls[number:] = [_Call(self._calls[number].module, _Output(output))]
            self._next = number + 1
        return output


def _can_be_answered(output: Tensor, given: list[tuple[Tensor, int]]) -> bool:
    """Whether a call has done no more than put out a new tensor: not changed its inputs, nor passed them through."""
    unchanged = all(_version(tensor) == version for tensor, version in given)
    return unchanged and all(_memory(output) != _memory(tensor) for tensor, _ in given)


def _version(tensor: Tensor) -> int:
    """Counts the changes of a tensor; one of inference mode has no count, and can't be changed outside of it."""
    return 0 if tensor.is_inference() else tensor._version


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _instead_of_forward(model: nn.Module, calls: _Pass) -> Iterator[None]:
    before = [(module, module.__dict__.get("forward")) for module in model.modules()]
    try:
        for module, _ in before:
            module.__dict__["forward"] = partial(calls.call, module, module.forward)
        yield
    finally:
        for module, own in before:
            module.__dict__.pop("forward", None)
            if own is not None:
                module.__dict__["forward"] = own
