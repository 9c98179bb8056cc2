"""CompiledStep: one optimizer step (forward, loss, backward, clipping, update) as one compiled graph.

The step is written down once as a function of plain tensors, traced into a graph of elementary
operations (`make_fx`), and compiled by torch's inductor, without a module, an autograd tape or an optimizer
object in the way. It updates the weights and the optimizer's state in place, so that plain steps,
checkpoints and averages go on from them. Learning rate, weight decay and Adam's corrections are
inputs, so the schedule and live changes apply. Random numbers come from torch's own generator, in the order of
the plain path.

Updates: Adam (Kingma and Ba 2015), with decoupled weight decay AdamW (Loshchilov and Hutter 2019), and SGD
with Nesterov momentum as torch.optim.SGD has it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from litscope.models.learning.losses import Target
from litscope.models.learning.steps import Outputs, stack_outputs
from litscope.types import Batch

if TYPE_CHECKING:
    from litscope.models.classifier import Classifier

MOST_WINDOW = 8
"""The most batches per optimizer step that are unrolled into one graph."""

MEASURED_STEPS = 20

FED = ("image", "features", "label", "left_out")
"""The parts of a batch that a compiled step can take, in the order of its arguments; either image or features."""

MAY_BE_FED = (*FED, "weight", "soft_label")
"""The parts of a batch that a step depends on; a batch with others than the compiled ones takes a plain step."""

_STATE = {AdamW: ("exp_avg", "exp_avg_sq"), Adam: ("exp_avg", "exp_avg_sq"), SGD: ("momentum_buffer",)}
"""The tensors in each parameter's state that an update changes."""


def why_not_compiled(module: Classifier, optimizer: Optimizer) -> str | None:
    """Why the step cannot be compiled, or None when it can."""
    trainer: Any = module.trainer
    if type(optimizer) not in _STATE:
        return f"the update of {type(optimizer).__name__} is not written for it (adamw, adam and sgd are)"
    if module.objective.early is not None:
        return "early-learning regularisation (--robust elr) keeps a target for each sample"
    on_gpu = module.device.type == "cuda"
    if trainer.precision != "32-true" and not (on_gpu and trainer.precision == "bf16-mixed"):
        return f"it is written for --precision 32{' and bf16' if on_gpu else ''}, not {trainer.precision}"
    if trainer.accumulate_grad_batches > MOST_WINDOW:
        return f"gradients are accumulated over more than {MOST_WINDOW} batches"
    if module.whole_members is not None:
        return "the members are whole networks"
    for part in _stepped(module).modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            return "the network has batch norm, whose statistics change in a step"
    return None


def _stepped(module: Classifier) -> nn.Module:
    """What of a classifier computes in a step: of one whose head trains on features, the head."""
    if module.settings.finetune == "head" and module.head is not None:
        return module.head
    return module


def _idle(module: Classifier) -> set[int]:
    """The ids of the tensors of the network that no step reads."""
    assert module.net is not None
    part = _stepped(module)
    if part is module:
        return set()
    read = {id(tensor) for tensor in (*part.parameters(), *part.buffers())}
    return {id(tensor) for tensor in (*module.net.parameters(), *module.net.buffers())} - read


class CompiledStep:
    """A compiled optimizer step, for windows of one shape.

    Args:
        module: the classifier, in training mode.
        optimizer: its optimizer; see `why_not_compiled`.
        batch: an example of a window, (A, B, ...) for each part that a step takes: inputs, label, and left_out where
            members have folds.
        clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(self, module: Classifier, optimizer: Optimizer, batch: Batch, clip: float) -> None:
        self._fed = [name for name in FED if name in batch]
        example = self._example(batch)
        self._shape, self._dtype = example[0].shape, example[0].dtype
        self._kind = type(optimizer)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        idle = _idle(module)
        others = [p for p in module.parameters() if not any(p is q for q in self._parameters)]
        self._constants = [tensor for tensor in (*others, *module.buffers()) if id(tensor) not in idle]
        self._settings = [_settings(group) for group in optimizer.param_groups]
        examples = [tensor.detach().clone() for tensor in self._arguments(optimizer)]
        examples += [*example, self._on_device([self._scalars(optimizer, 1.0)])[0]]
        step = _StepFunction(module, optimizer, self._parameters, self._constants, clip, len(example))
        self._run = _compile(step, examples)
        self._counted: tuple[Tensor, int, float] | None = None

    def fits(self, batch: Batch, optimizer: Optimizer) -> bool:
        """Whether a stack's windows are like the compiled one, and the optimizer has taken its first step."""
        if [name for name in MAY_BE_FED if name in batch] != self._fed:
            return False
        inputs = self._example(batch)[0]
        return (
            inputs.shape[1:] == self._shape[1:]
            and inputs.dtype == self._dtype
            and len(optimizer.state) == len(self._parameters)
            and [_settings(group) for group in optimizer.param_groups] == self._settings
        )

    def run(
        self,
        batch: Batch,
        optimizer: Optimizer,
        advance: Callable[[], None],
        step_done: Callable[[], None] | None = None,
    ) -> Outputs:
        """Take the steps of a stack.

        Args:
            batch: N batches, a whole number of windows.
            advance: moves the schedule on by one step; called between two steps.
            step_done: called after each step.

        Returns:
            The batches' outputs, stacked: N in front.
        """
        scalars = self._on_device(self._all_scalars(batch, optimizer, advance))
        with torch.no_grad():
            return self._take(batch, optimizer, scalars, step_done)

    def _all_scalars(self, batch: Batch, optimizer: Optimizer, advance: Callable[[], None]) -> list[list[float]]:
        """The scalars of each step of a stack; moves the schedule on."""
        num_steps = len(batch["label"]) // self._shape[0]
        done = self._count(optimizer, num_steps)
        scalars = []
        for number in range(num_steps):
            if number:
                advance()
            scalars.append(self._scalars(optimizer, done + number + 1))
        return scalars

    def _take(
        self, batch: Batch, optimizer: Optimizer, scalars: Tensor, step_done: Callable[[], None] | None
    ) -> Outputs:
        arguments = self._arguments(optimizer)
        outputs: list[Sequence[Tensor]] = []
        for of_step in zip(*(stack.unbind() for stack in self._stacks(batch)), scalars.unbind(), strict=True):
            flat = self._run(*arguments, *of_step)
            outputs += [flat[i : i + 5] for i in range(0, len(flat), 5)]
            if step_done is not None:
                step_done()
        return stack_outputs(outputs)

    def measure(self, batch: Batch, optimizer: Optimizer) -> float:
        """Seconds that a step on a window takes, measured on copies of the weights and the state."""
        arguments = [tensor.detach().clone() for tensor in self._arguments(optimizer)]
        arguments += [*self._example(batch), self._on_device([self._scalars(optimizer, 1.0)])[0]]
        with torch.no_grad(), same_random(arguments[0].device):
            return median_s(lambda: self._run(*arguments), MEASURED_STEPS)

    def _on_device(self, scalars: list[list[float]]) -> Tensor:
        """(S, K) float32 on the device of the weights, without waiting for it."""
        tensor, device = torch.tensor(scalars), self._parameters[0].device
        return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

    def _example(self, batch: Batch) -> list[Tensor]:
        """The parts of a window that a step takes, (A, B, ...): inputs, label and maybe left_out."""
        return [batch[name] for name in self._fed]  # type: ignore[literal-required]

    def _stacks(self, batch: Batch) -> list[Tensor]:
        """The same for S windows of A batches: (S, A, B, ...)."""
        return [stack.view(-1, self._shape[0], *stack.shape[1:]) for stack in self._example(batch)]

    def _count(self, optimizer: Optimizer, num_steps: int) -> float:
        """Steps that the optimizer has counted; it now counts `num_steps` more.

        Its counter may lie on a GPU: it is read again only where somebody else has changed it.
        """
        if self._kind is SGD:
            return 0.0
        counters = [optimizer.state[p]["step"] for p in self._parameters]
        if self._counted is not None and self._counted[0] is counters[0] and self._counted[1] == counters[0]._version:
            done = self._counted[2]
        else:
            done = float(counters[0])
        torch._foreach_add_(counters, float(num_steps))
        self._counted = counters[0], counters[0]._version, done + num_steps
        return done

    def _arguments(self, optimizer: Optimizer) -> list[Tensor]:
        """The weights, then the state tensors by name, then the constants."""
        state = optimizer.state
        names = _state_names(optimizer)
        tensors = [p.detach() for p in self._parameters]
        tensors += [state[p][name] for name in names for p in self._parameters]
        return [*tensors, *(tensor.detach() for tensor in self._constants)]

    def _scalars(self, optimizer: Optimizer, count: float) -> list[float]:
        """Adam's two corrections at its step `count` (from 1), then rate and weight decay of each of G groups."""
        groups = optimizer.param_groups
        corrections = [1.0, 1.0]
        if self._kind is not SGD:
            beta1, beta2 = groups[0]["betas"]
            corrections = [1.0 - beta1**count, math.sqrt(1.0 - beta2**count)]
        pairs = [float(group[name]) for group in groups for name in ("lr", "weight_decay")]
        return [*corrections, *pairs]


class _StepFunction:
    """The step as a function of plain tensors, to be traced."""

    def __init__(
        self,
        module: Classifier,
        optimizer: Optimizer,
        parameters: list[Tensor],
        constants: list[Tensor],
        clip: float,
        num_fed: int,
    ) -> None:
        self._module, self._clip, self._num_fed = module, clip, num_fed
        self._kind = type(optimizer)
        self._groups = [(group, len(group["params"])) for group in optimizer.param_groups]
        self._num_states = len(_state_names(optimizer))
        named = {id(tensor): name for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        self._names = [named[id(p)] for p in parameters]
        self._constant_names = [named[id(c)] for c in constants]
        self._is_bf16 = module.trainer.precision == "bf16-mixed"

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """Five tensors (`Outputs`) for each batch of the window."""
        n = len(self._names)
        *tensors, scalars = arguments
        weights, tensors, fed = tensors[:n], tensors[n : -self._num_fed], tensors[-self._num_fed :]
        states = [tensors[i * n : (i + 1) * n] for i in range(self._num_states)]
        fixed = dict(zip(self._constant_names, tensors[self._num_states * n :], strict=True))
        leaves = [w.detach().requires_grad_() for w in weights]
        outputs: list[Tensor] = []
        total: list[Tensor] = []
        with torch.enable_grad():
            for of_batch in zip(*(part.unbind() for part in fed), strict=True):
                named = {**dict(zip(self._names, leaves, strict=True)), **fixed}
                with torch.autocast(scalars.device.type, torch.bfloat16, enabled=self._is_bf16, cache_enabled=False):
                    logits, log_p, loss = torch.func.functional_call(_Losses(self._module), _prefixed(named), of_batch)
                mean = loss.mean / len(fed[0])
                gradients = torch.autograd.grad(mean, leaves)
                total = [a + b for a, b in zip(total, gradients, strict=True)] if total else list(gradients)
                outputs += [mean, logits, log_p, loss.rows, loss.sample_loss]
        with torch.no_grad():
            self._update(weights, states, self._clipped(total), scalars, fixed)
        return [output.detach() for output in outputs]

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """The gradients as torch.nn.utils.clip_grad_norm_ would leave them."""
        if not self._clip:
            return gradients
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        share = (self._clip / (norm + 1e-6)).clamp(max=1.0)
        return [g * share for g in gradients]

    def _update(
        self,
        weights: Sequence[Tensor],
        states: list[list[Tensor]],
        gradients: list[Tensor],
        scalars: Tensor,
        fixed: dict[str, Tensor],
    ) -> None:
        at = 0
        for number, (group, size) in enumerate(self._groups):
            lr = scalars[2 + 2 * number] * _share(fixed, "lr_share")
            decay = scalars[3 + 2 * number] * _share(fixed, "decay_share")
            for i in range(at, at + size):
                own = [state[i] for state in states]
                if self._kind is SGD:
                    _sgd(weights[i], gradients[i], own, lr, decay, group["momentum"])
                else:
                    is_decoupled = self._kind is AdamW
                    _adam(weights[i], gradients[i], own, lr, decay, scalars[:2], group, is_decoupled)
            at += size


def _share(fixed: dict[str, Tensor], name: str) -> Tensor | float:
    """Each member's share of a setting, where members differ."""
    return next((tensor for own, tensor in fixed.items() if own.endswith(f".{name}")), 1.0)


def _sgd(weight: Tensor, gradient: Tensor, state: list[Tensor], lr: Tensor, decay: Tensor, momentum: float) -> None:
    gradient = gradient + decay * weight
    if state:
        (buffer,) = state
        buffer.copy_(momentum * buffer + gradient)
        gradient = gradient + momentum * buffer
    weight.copy_(weight - lr * gradient)


def _adam(
    weight: Tensor,
    gradient: Tensor,
    state: list[Tensor],
    lr: Tensor,
    decay: Tensor,
    corrections: Tensor,
    group: dict[str, Any],
    is_decoupled: bool,
) -> None:
    (beta1, beta2), eps = group["betas"], group["eps"]
    first, second = state
    if not is_decoupled:
        gradient = gradient + decay * weight
    mean = first + (1.0 - beta1) * (gradient - first)
    square = beta2 * second + (1.0 - beta2) * gradient * gradient
    kept = weight * (1.0 - lr * decay) if is_decoupled else weight
    first.copy_(mean)
    second.copy_(square)
    weight.copy_(kept - lr / corrections[0] * mean / (square.sqrt() / corrections[1] + eps))


class _Losses(nn.Module):
    """`Classifier.losses` as a module's forward, for `functional_call`."""

    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.inner = module

    def forward(self, inputs: Tensor, label: Tensor, left_out: Tensor | None = None) -> Any:
        return self.inner.losses(inputs, Target(label, left_out=left_out))


def _prefixed(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"inner.{name}": tensor for name, tensor in named.items()}


def _compile(step: _StepFunction, examples: list[Tensor]) -> Callable[..., Any]:
    """Trace the step on the examples, which it changes, and compile the graph."""
    import torch._inductor.config
    from torch.fx.experimental.proxy_tensor import make_fx

    with same_random(examples[0].device):
        graph = make_fx(step)(*examples)
        with torch._inductor.config.patch(fallback_random=True, size_asserts=False), torch.no_grad():
            run = torch._inductor.compile(graph, [*examples])
            run(*[example.clone() for example in examples])  # compiles now what would wait for the first call
    return run  # type: ignore[no-any-return]


@contextmanager
def same_random(device: torch.device) -> Iterator[None]:
    """What is drawn in the block is drawn again after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def median_s(call: Callable[[], Any], times: int) -> float:
    """Median of the seconds that a call takes, the device's work included."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # a run on the CPU must not open a GPU
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def _state_names(optimizer: Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, SGD) and not optimizer.param_groups[0]["momentum"]:
        return ()
    return _STATE[type(optimizer)]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What is compiled into the graph: all settings but the rate and the weight decay."""
    return {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr", "weight_decay")}
