"""Members: M networks of one MLP, or M heads over the features of one body, trained at once. Each has weights, dropout
and a loss of its own.

Their layers are stacked, so that one batched product does the work of M small ones; on a small network, where Python
and the start of each operation are the cost, M cost little more than one. An elementwise optimizer changes each member
as it would change it alone.

Members may have learning rates and weight decays of their own (`MemberSettings`): the optimizer takes a step with the
largest of each, and because a step is linear in both, `scale_steps` turns it into the step of each member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from litscope.models.learning.losses import IGNORED, ClassificationLoss, Loss, Target
from litscope.models.networks.nets import Mlp
from litscope.models.over_ranks import OverRanks


@dataclass(frozen=True)
class MemberSettings:
    """What M members differ in, besides their weights.

    Attributes:
        lr: (M,) the learning rate of each, all above 0; None: one for all.
        weight_decay: (M,) the decoupled weight decay of each, at least 0; None: one for all.
    """

    lr: Sequence[float] | None = None
    weight_decay: Sequence[float] | None = None


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
        settings: what they differ in.

    Attributes:
        num_members: M.
        lr_share, decay_share: (M, 1, 1) each member's learning rate and weight decay as a share of the largest, which
            is the optimizer's; None where all have the same. Not persistent: they are the recipe's.
    """

    lr_share: Tensor | None
    decay_share: Tensor | None

    def __init__(self, nets: Sequence[Mlp], settings: MemberSettings | None = None) -> None:
        super().__init__()
        self.num_members = len(nets)
        settings = settings or MemberSettings()
        self.register_buffer("lr_share", _shares(settings.lr), persistent=False)
        self.register_buffer("decay_share", _shares(settings.weight_decay), persistent=False)
        layers = zip(*(_linears(net) for net in nets), strict=True)
        self.layers = nn.ModuleList(MemberLinear(of_one_place) for of_one_place in layers)
        self.dropout = nn.Dropout(next(part.p for part in nets[0].modules() if isinstance(part, nn.Dropout)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, B, C). All members see the same batch, (B, F) or (B, K, H, W), or, with M in front, each its own
        view of it.
        """
        x = x.flatten(2) if x.ndim in (3, 5) else x.flatten(1).expand(self.num_members, -1, -1)
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


class MemberHeads(MemberLinear):
    """M heads over the features of one body, in the place of its single head.

    Args:
        layers: the M heads whose weights it starts with.
        settings: what they differ in.

    Attributes:
        num_members, lr_share, decay_share: as of `Members`.
    """

    lr_share: Tensor | None
    decay_share: Tensor | None

    def __init__(self, layers: Sequence[nn.Linear], settings: MemberSettings | None = None) -> None:
        super().__init__(layers)
        self.num_members = len(layers)
        settings = settings or MemberSettings()
        self.register_buffer("lr_share", _shares(settings.lr), persistent=False)
        self.register_buffer("decay_share", _shares(settings.weight_decay), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, B, C) of features (B, F), or (M, B, F) where each head is given its own view of them."""
        return super().forward(x.expand(self.num_members, -1, -1))


def make_heads(
    head: nn.Linear,
    count: int,
    *,
    settings: MemberSettings | None = None,
    same_start: bool = False,
    seeds: Sequence[int] | None = None,
) -> MemberHeads:
    """`count` heads of the shape of one; number i starts from the weights that the seed of this process plus i gives.

    torch's own generator is left as it was.

    Args:
        settings: what they differ in.
        same_start: all start at zero.
        seeds: (M,) of the weights of each; None: as above.
    """
    seed = torch.initial_seed()
    with torch.random.fork_rng([]):
        layers = []
        for number in range(count):
            torch.manual_seed(seed + number if seeds is None else seeds[number])
            layer = nn.Linear(head.in_features, head.out_features, device=head.weight.device)
            if same_start:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            layers.append(layer)
    return MemberHeads(layers, settings)


def members_of(net: nn.Module | None, head: nn.Module | None) -> Members | MemberHeads | None:
    """The part of a network that is several, if one is."""
    return next((part for part in (net, head) if isinstance(part, Members | MemberHeads)), None)


def _shares(values: Sequence[float] | None) -> Tensor | None:
    """Each value as a share of the largest, (M, 1, 1); divided in double precision."""
    if values is None:
        return None
    most = max(values)
    return torch.tensor([value / most if most else 1.0 for value in values])[:, None, None]


def make_members(
    make: Callable[[], Mlp],
    count: int,
    *,
    settings: MemberSettings | None = None,
    same_start: bool = False,
    seeds: Sequence[int] | None = None,
) -> Members:
    """`count` networks; number i starts from the weights that the seed of this process plus i gives.

    torch's own generator is left as it was.

    Args:
        make: makes one network.
        settings: what they differ in.
        same_start: all start from the weights that the seed itself gives.
        seeds: (M,) of the weights of each; None: as above.
    """
    seed = torch.initial_seed()
    with torch.random.fork_rng([]):
        nets = []
        for number in range(count):
            own_seed = seed + number if seeds is None else seeds[number]
            torch.manual_seed(seed if same_start else own_seed)
            nets.append(make())
    return Members(nets, settings)


def scale_steps(optimizer: Optimizer, members: Members | MemberHeads) -> None:
    """Have every later step of the optimizer move each member at its own rate and decay.

    A step at rate lr with decoupled decay d takes w to s = w - lr (d w + u). That of a member with the share a of lr
    and b of d is w - a lr (b d w + u) = w + a (s - w) + a lr d (1 - b) w.

    Args:
        optimizer: one of torch's whose update u does not depend on rate and decay; AdamW, where the decays differ.
    """
    if members.lr_share is None and members.decay_share is None:
        return
    before: list[Tensor] = []

    def keep(*_: Any) -> None:
        before[:] = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def scale(*_: Any) -> None:
        earlier = iter(before)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                kept = next(earlier)
                share = members.lr_share if members.lr_share is not None else torch.ones_like(kept[:1, :1, :1])
                moved = kept + share * (weight - kept)
                if members.decay_share is not None and group["weight_decay"]:
                    moved += group["lr"] * group["weight_decay"] * share * (1.0 - members.decay_share) * kept
                weight.copy_(moved)
        before.clear()

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(scale)


def fuse(logits: Tensor) -> Tensor:
    """(M, B, C) logits -> (B, C): the logarithm of the members' mean probability, whose softmax is that mean."""
    log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 2)
    return log_p.logsumexp(0) - math.log(len(logits))


def member_losses(
    objective: ClassificationLoss,
    logits: Tensor,
    target: Target,
    over_ranks: OverRanks | None = None,
    fused: Tensor | None = None,
) -> Loss:
    """The loss of all members on one batch.

    Args:
        logits: (M, B, C).
        target: of the batch.
        over_ranks: as of `ClassificationLoss`.
        fused: (B, C) log-probabilities of all together; None: of their mean probability.

    Returns:
        mean: the members' mean in value, and their sum in its gradient, so that each trains as it would alone, on
        the rows that are its own; rows: (B,) the members' mean; sample_loss: (B,) cross-entropy of `fused`.
    """
    count, size, _ = logits.shape
    label, soft_label, weight, left_out, _ = target
    log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 2)
    labels = label.repeat(count)
    weights = None if weight is None else weight.repeat(count)
    if left_out is not None:
        is_own = left_out != torch.arange(count, device=label.device)[:, None]  # (M, B)
        labels = torch.where(is_own.flatten(), labels, IGNORED)
        norms = objective.norms(labels, soft_label is not None).view(count, size).sum(1)
        norms = norms if over_ranks is None else over_ranks(norms)
        share = norms.sum() / (count * norms.clamp(min=torch.finfo(norms.dtype).tiny))  # means over own rows only
        own_share = share.repeat_interleave(size)
        weights = own_share if weights is None else own_share * weights
    own = objective(
        log_p.flatten(0, 1),
        labels,
        None if soft_label is None else soft_label.repeat(count, 1),
        weights,
        over_ranks,
    )
    mean = own.mean.detach() + count * (own.mean - own.mean.detach())
    if fused is None:
        fused = log_p.detach().logsumexp(0) - math.log(count)
    sample_loss = nn.functional.nll_loss(fused, label, reduction="none", ignore_index=-1)
    return Loss(mean, own.rows.view(count, size).mean(0), sample_loss)


class MemberMetrics:
    """Accuracy and loss of each member, over an epoch; summed on the device."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch: logits (M, B, C), label (B,), negative where there is none."""
        valid = label >= 0
        real = torch.float32 if label.device.type == "mps" else torch.float64
        right = ((logits.argmax(2) == label) & valid).sum(1)
        log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 2)
        picked = log_p.gather(2, label.clamp(min=0).expand(len(logits), -1)[..., None])[..., 0]
        loss = -(picked * valid).sum(1)
        sums = torch.stack([x.to(real) for x in (right, loss, valid.sum().expand(len(logits)))])  # (3, M)
        self._sums = sums if self._sums is None else self._sums + sums

    def reset(self) -> None:
        """Forget the rows of an epoch that was broken off."""
        self._sums = None

    def take(self, add_up: Callable[[Tensor], Tensor]) -> dict[str, list[float]]:
        """Return accuracy and loss (plain cross-entropy), a number for each member, and start anew; empty where nothing
        was counted.

        Args:
            add_up: sums a tensor over the ranks.
        """
        sums = self._sums
        self.reset()
        if sums is None:
            return {}
        right, loss, count = add_up(sums)
        count = count.clamp(min=1)
        return {"accuracy": (right / count).tolist(), "loss": (loss / count).tolist()}


def _linears(net: Mlp) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
