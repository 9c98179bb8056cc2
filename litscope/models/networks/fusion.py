"""Fusion of several networks: (M, B, C) logits of M members -> (B, C) log-probabilities of all together.

With p_m = softmax(z_m) and T_m the temperature of member m:

    mean                  the mean of the p_m
    median                the median of the p_m, class by class, made to sum to 1; of an even number the mean of the two
                          in the middle
    vote                  each member votes for its most probable class, and the mean probability counts as one vote
                          more, shared among the classes: (votes + mean p) / (M + 1). So the class with the most votes
                          is predicted, among equals the one with the highest mean probability, and no class that some
                          member holds for possible has the probability 0
    weighted              sum of w_m p_m
    uncertainty_weighted  of T passes with dropout, per sample: the mean mu_m and the variance v_m of the passes of
                          z_m / T_m, w_m = (1 / max(v_m, eps)) / sum_k (1 / max(v_k, eps)), z = sum of w_m mu_m
                          (inverse-variance weighting, which is best where the errors of the members are independent
                          and the variances are theirs). Two classes have one logit, z_1 - z_0; more have one each, of
                          which every pass is centred, and weights for each
    stacked               sum of w_m softmax(z_m / T_m), whose logarithm is then divided by a last temperature

Passes with dropout may be given to every rule, as (T, M, B, C): the others take the mean probability of a member's
passes first. Everything is elementary arithmetic, in at least float32, so that a network can be exported with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from litscope.fusions import Fusion

LEAST_VARIANCE = 1e-3
"""Of logits: less is taken for this much, so that a member that dropout does not move is not trusted without bound."""


def fuse_by(fusion: Fusion, logits: Tensor) -> Tensor:
    """The log-probabilities (B, C) of all members together.

    Args:
        fusion: the rule, with what it has learned.
        logits: (M, B, C), or (T, M, B, C) of T passes with dropout. Of one pass no variance is known: then
            uncertainty_weighted gives all members the same weight.

    Returns:
        At least float32; their softmax sums to 1.

    Raises:
        ValueError: if the fusion is one of another number of members.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    passes = z if z.ndim == 4 else z[None]  # (T, M, B, C)
    count = passes.shape[1]
    fusion.check(count)
    if fusion.temperatures is not None:
        passes = passes / passes.new_tensor(fusion.temperatures)[:, None, None]
    if fusion.rule == "uncertainty_weighted":
        return _by_variance(passes)
    log_p = mean_of_passes(passes)  # (M, B, C)
    if fusion.rule == "median":
        return _log_median(log_p)
    if fusion.rule == "vote":
        votes = torch.nn.functional.one_hot(log_p.argmax(2), log_p.shape[2]).sum(0)
        return torch.log((votes + log_p.exp().mean(0)) / (count + 1))
    if fusion.weights is None:
        return _log_mean(log_p)
    used = [(weight, of_one) for weight, of_one in zip(fusion.weights, log_p, strict=True) if weight > 0.0]
    fused = torch.stack([of_one + math.log(weight) for weight, of_one in used]).logsumexp(0)
    return torch.log_softmax(fused / fusion.last_temperature, 1)


def mean_of_passes(logits: Tensor) -> Tensor:
    """The log-probabilities (M, B, C) of each of M members, of the mean probability of its passes (T, M, B, C)."""
    return _log_mean(torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1))


def parts_by(fusion: Fusion, logits: Tensor) -> Tensor:
    """Each part by itself, as it goes into the rule: (P, B, C) logits whose softmax are its probabilities, at the
    temperature of its member and at the last one.

    Args:
        logits: (P, B, C), of M members, or of T passes of each: the members of one pass after another.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if fusion.temperatures is not None:
        own = z.new_tensor(fusion.temperatures).repeat(len(z) // len(fusion.temperatures))
        z = z / own[:, None, None]
    return torch.log_softmax(z, 2) / fusion.last_temperature


def weights_by(fusion: Fusion, num_parts: int) -> list[float] | None:
    """(P,) how much each part counts for the rule, of parts as `parts_by` has them; None: alike, or by sample."""
    if fusion.weights is None:
        return None
    return [*fusion.weights] * (num_parts // len(fusion.weights))


def _by_variance(z: Tensor) -> Tensor:
    """(T, M, B, C) logits, the members weighted by how little their passes scatter."""
    is_pair = z.shape[-1] == 2
    z = z[..., 1:] - z[..., :1] if is_pair else z - z.mean(-1, keepdim=True)
    mean = z.mean(0)
    precision = 1.0 / (z - mean).square().mean(0).clamp(min=LEAST_VARIANCE)
    fused = (precision * mean).sum(0) / precision.sum(0)
    return torch.log_softmax(torch.cat([-fused / 2, fused / 2], 1) if is_pair else fused, 1)


def _log_median(log_p: Tensor) -> Tensor:
    """The logarithm keeps the order, so the median is found before the exponential can lose small numbers."""
    ordered = log_p.sort(0).values
    middle = torch.logaddexp(ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2])
    return torch.log_softmax(middle, 1)


def _log_mean(log_p: Tensor) -> Tensor:
    """The logarithm of the mean over the first dimension."""
    return log_p[0] if len(log_p) == 1 else log_p.logsumexp(0) - math.log(len(log_p))
