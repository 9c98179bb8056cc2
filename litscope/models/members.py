"""Members: M networks of one MLP, trained at once. Each has weights, dropout and a loss of its own.

Their layers are stacked, so that one batched product does the work of M small ones; on a small network, where Python
and the start of each operation are the cost, M cost little more than one. An elementwise optimizer changes each member
as it would change it alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from litscope.models.losses import ClassificationLoss, Loss
from litscope.models.nets import Mlp


class MemberLinear(nn.Module):
    """M linear layers of one shape.

    Args:
        layers: the M layers whose weights it starts with.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))  # (M, out, in)
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))  # (M, 1, out)

    def forward(self, x: Tensor) -> Tensor:
        """(M, B, in) -> (M, B, out)."""
        return torch.baddbmm(self.bias, x, self.weight.mT)


class Members(nn.Module):
    """M MLPs in one.

    Args:
        nets: the M networks whose weights it starts with.

    Attributes:
        num_members: M.
    """

    def __init__(self, nets: Sequence[Mlp]) -> None:
        super().__init__()
        self.num_members = len(nets)
        layers = zip(*(_linears(net) for net in nets), strict=True)
        self.layers = nn.ModuleList(MemberLinear(of_one_place) for of_one_place in layers)
        self.dropout = nn.Dropout(next(part.p for part in nets[0].modules() if isinstance(part, nn.Dropout)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, B, C) of a batch (B, ...) that all members see."""
        x = x.flatten(1).expand(self.num_members, -1, -1)
        *hidden, head = self.layers
        for layer in hidden:
            x = layer(x).relu_()
        logits: Tensor = head(self.dropout(x))
        return logits

    def no_weight_decay(self) -> set[str]:
        """The biases, which have a dimension more than those of one network."""
        return {name for name, _ in self.named_parameters() if name.endswith(".bias")}

    def write_to(self, net: Mlp, member: int) -> None:
        """Give an MLP of the same shape the weights of one member."""
        with torch.no_grad():
            for layer, stacked in zip(_linears(net), self.layers, strict=True):
                assert isinstance(stacked, MemberLinear)
                layer.weight.copy_(stacked.weight[member])
                layer.bias.copy_(stacked.bias[member, 0])


def make_members(make: Callable[[], Mlp], count: int) -> Members:
    """`count` networks; number i starts from the weights that the seed of this process plus i gives.

    torch's own generator is left as it was.
    """
    seed = torch.initial_seed()
    with torch.random.fork_rng([]):
        nets = []
        for number in range(count):
            torch.manual_seed(seed + number)
            nets.append(make())
    return Members(nets)


def fuse(logits: Tensor) -> Tensor:
    """(M, B, C) logits -> (B, C): the logarithm of the members' mean probability, whose softmax is that mean."""
    log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 2)
    return log_p.logsumexp(0) - math.log(len(logits))


def member_losses(
    objective: ClassificationLoss, logits: Tensor, label: Tensor, soft_label: Tensor | None, weight: Tensor | None
) -> Loss:
    """The loss of all members on one batch.

    Args:
        logits: (M, B, C).
        label, soft_label, weight: of the batch, as `ClassificationLoss` takes them.

    Returns:
        mean: the members' mean in value, and their sum in its gradient, so that each trains as it would alone;
        rows: (B,) the members' mean; sample_loss: (B,) cross-entropy of the mean probability.
    """
    count, size, _ = logits.shape
    log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 2)
    own = objective(
        log_p.flatten(0, 1),
        label.repeat(count),
        None if soft_label is None else soft_label.repeat(count, 1),
        None if weight is None else weight.repeat(count),
    )
    mean = own.mean.detach() + count * (own.mean - own.mean.detach())
    fused = log_p.detach().logsumexp(0) - math.log(count)
    sample_loss = nn.functional.nll_loss(fused, label, reduction="none", ignore_index=-1)
    return Loss(mean, own.rows.view(count, size).mean(0), sample_loss)


class MemberAccuracy:
    """Share of right answers of each member, over an epoch; counted on the device."""

    def __init__(self) -> None:
        self._right: Tensor | None = None
        self._count: Tensor | None = None

    def add(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch: logits (M, B, C), label (B,), negative where there is none."""
        valid = label >= 0
        right = ((logits.argmax(2) == label) & valid).sum(1)
        if self._right is None or self._count is None:
            self._right, self._count = torch.zeros_like(right), torch.zeros_like(right[0])
        self._right = self._right + right
        self._count = self._count + valid.sum()

    def reset(self) -> None:
        """Forget the rows of an epoch that was broken off."""
        self._right = self._count = None

    def take(self, add_up: Callable[[Tensor], Tensor]) -> list[float]:
        """One number for each member, and start anew; empty where nothing was counted.

        Args:
            add_up: over the ranks.
        """
        right, count = self._right, self._count
        self.reset()
        if right is None or count is None:
            return []
        total = add_up(torch.cat([right, count[None]]))
        return [float(value) for value in total[:-1] / total[-1].clamp(min=1)]


def _linears(net: Mlp) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
