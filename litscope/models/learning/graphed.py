"""GraphedStep: the compiled optimizer step as one CUDA graph, replayed for every step of a call.

A small network's step is some dozens of kernels of a few microseconds each; starting them one by one
from Python takes longer than they run. So the step is captured once (NVIDIA's CUDA graphs, as torch.cuda.graph
offers them) and afterwards started by a single call. The graph finds its batch in a whole stack, and the place
for its outputs, by a counter on the device, which it moves on itself; so a call of any length is one copy of its
inputs and one replay for each step, and the host never waits for the device.

Weights and optimizer state are changed in place. If other tensors take their place
(a checkpoint is loaded), the graph is captured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from litscope.models.learning.compiled import MEASURED_STEPS, CompiledStep, median_s, same_random
from litscope.models.learning.steps import Outputs
from litscope.types import Batch

if TYPE_CHECKING:
    from litscope.models.classifier import Classifier


class GraphedStep(CompiledStep):
    """A captured optimizer step, for windows of one shape, on a CUDA device.

    Args:
        module, optimizer, batch, clip: as for `CompiledStep`.
        most_steps: the longest call.
    """

    def __init__(self, module: Classifier, optimizer: Optimizer, batch: Batch, clip: float, most_steps: int) -> None:
        # The graph reads its inputs from memory of its own, which is contiguous whatever format images come in.
        super().__init__(module, optimizer, _contiguous(batch), clip)
        self._most_steps = most_steps
        self._graph: StepGraph | None = None
        self._places: list[int] = []

    def measure(self, batch: Batch, optimizer: Optimizer) -> float:
        """Seconds that a step takes, measured on copies of the weights and the state."""
        arguments = [tensor.detach().clone() for tensor in self._arguments(optimizer)]
        scalars = self._on_device([self._scalars(optimizer, 1.0)])
        stacks = [*self._stacks(batch), scalars]
        graph = StepGraph(self._run, arguments, stacks, num_steps=1)
        with torch.no_grad(), same_random(scalars.device):
            return median_s(lambda: graph.run(stacks), MEASURED_STEPS)

    def _take(
        self, batch: Batch, optimizer: Optimizer, scalars: Tensor, step_done: Callable[[], None] | None
    ) -> Outputs:
        arguments, stacks = self._arguments(optimizer), [*self._stacks(batch), scalars]
        places = [tensor.data_ptr() for tensor in arguments]
        if self._graph is None or places != self._places:
            num_steps = max(self._most_steps, len(scalars))
            self._graph = StepGraph(self._run, arguments, stacks, num_steps=num_steps)
            self._places = places
        return self._graph.run(stacks, step_done)

    def fits(self, batch: Batch, optimizer: Optimizer) -> bool:
        """As for `CompiledStep`, and the call is not longer than the graph has room for."""
        num_steps = len(batch["label"]) // self._shape[0]
        return num_steps <= self._most_steps and super().fits(batch, optimizer)


class StepGraph:
    """The graph, with the memory that it reads from and writes to.

    Args:
        step: (*arguments, *inputs) -> five tensors for each batch of the window.
        arguments: tensors that are changed in place; they must stay where they are.
        stacks: (S, ...) inputs of some steps, for their shapes and dtypes.
        num_steps: the most steps in a call.
    """

    def __init__(
        self, step: Callable[..., list[Tensor]], arguments: list[Tensor], stacks: Sequence[Tensor], *, num_steps: int
    ) -> None:
        self._stacks = [_room_for(stack, num_steps) for stack in stacks]
        self._step, self._arguments = step, arguments
        for room, stack in zip(self._stacks, stacks, strict=True):
            room[0].copy_(stack[0])
        self._number = torch.zeros(1, dtype=torch.int64, device=stacks[0].device)
        self._outputs = self._rehearse(num_steps)
        self._graph = self._capture()

    def run(self, stacks: Sequence[Tensor], step_done: Callable[[], None] | None = None) -> Outputs:
        """Take S steps on the inputs in `stacks` (S, ...).

        Returns:
            Copies of the outputs of all S x A batches.
        """
        num_steps = len(stacks[0])
        for room, stack in zip(self._stacks, stacks, strict=True):
            room[:num_steps].copy_(stack)
        self._number.zero_()
        for _ in range(num_steps):
            self._graph.replay()
            if step_done is not None:
                step_done()
        loss, logits, log_p, rows, sample_loss = (output[:num_steps].flatten(0, 1).clone() for output in self._outputs)
        return loss, logits, log_p, rows, sample_loss

    def _one_step(self, arguments: list[Tensor]) -> list[Tensor]:
        """The step at the counter's place in the stack: five stacks (A, ...)."""
        flat = self._step(*arguments, *(room.index_select(0, self._number)[0] for room in self._stacks))
        return [torch.stack(flat[i::5]) for i in range(5)]

    def _rehearse(self, num_steps: int) -> list[Tensor]:
        """Run once on copies, on another stream, as a capture requires; returns room for the outputs."""
        copies = [tensor.clone() for tensor in self._arguments]
        stream = torch.cuda.Stream(self._number.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._number.device))
        with same_random(self._number.device), torch.cuda.stream(stream):
            found = self._one_step(copies)
        torch.cuda.current_stream(self._number.device).wait_stream(stream)
        return [_room_for(tensor[None], num_steps) for tensor in found]

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads copy signals meanwhile
            for room, found in zip(self._outputs, self._one_step(self._arguments), strict=True):
                room.index_copy_(0, self._number, found[None])
            self._number.add_(1)
        return graph


def _contiguous(batch: Batch) -> Batch:
    return {name: value.contiguous() for name, value in batch.items()}  # type: ignore[return-value, attr-defined]


def _room_for(stack: Tensor, num_steps: int) -> Tensor:
    """Zeros for `num_steps` steps of what `stack` (S, ...) holds, contiguous."""
    return torch.zeros_like(stack[:1].expand(num_steps, *stack.shape[1:]), memory_format=torch.contiguous_format)
