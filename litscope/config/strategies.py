"""Names of strategies: how several devices share the work, and what others call the same. No torch."""

from __future__ import annotations

from litscope.errors import did_you_mean

FULL, SHARD_GRAD = "fsdp_full", "fsdp_shard_grad"

SHARDED = (FULL, SHARD_GRAD)
"""Strategies under which each process keeps a share of the weights, of their gradients and of the optimizer's state."""

STRATEGIES = (
    "auto",
    "ddp",
    "ddp_spawn",
    "ddp_find_unused_parameters_true",
    "ddp_find_unused_parameters_false",
    "fsdp",
    *SHARDED,
    "no_shard",
)
"""What `--strategy` takes, beside the names that others have for the same."""

_MEANT = {
    "fsdp": (FULL, ""),
    "zero3": (FULL, f"ZeRO stage 3 is {FULL} here"),
    "zero2": (SHARD_GRAD, f"ZeRO stage 2 is {SHARD_GRAD} here"),
    "no_shard": ("ddp", "nothing is sharded, which is ddp"),
    "ddp_spawn": ("ddp", "litscope starts the processes of ddp itself, so it is ddp"),
}
"""Name -> the strategy that it stands for, and what is to be said of that."""

_TWO_MEANINGS = {
    "fsdp1": (
        "it has two meanings, and neither is a name here. Where it stands for SHARD_GRAD_OP, type "
        f"{SHARD_GRAD}. The first generation of FSDP is not used; for the second type {FULL}."
    ),
    "fsdp2": (
        "it has two meanings, and neither is a name here. Where it stands for NO_SHARD, type ddp. For the second "
        f"generation of FSDP type {FULL}, or {SHARD_GRAD} to keep the weights together between forward and backward."
    ),
}


def why_no_strategy(word: str) -> str | None:
    """Why a word is not a strategy, and what to type instead, as sentences; None if it is one."""
    if word in STRATEGIES or word in _MEANT:
        return None
    if word in _TWO_MEANINGS:
        return _TWO_MEANINGS[word]
    if word.startswith("deepspeed"):
        return (
            f"DeepSpeed is not used. Its ZeRO stage 3 is {FULL} (or zero3), stage 2 {SHARD_GRAD} (or zero2), stage 1 "
            f"has no like: take {SHARD_GRAD}."
        )
    return f"unknown. Known: {', '.join(STRATEGIES)}.{did_you_mean(word, (*STRATEGIES, *_MEANT))}"


def strategy_meant(word: str) -> tuple[str, str]:
    """The strategy that a known word stands for, and a line about it, "" where that is no news."""
    meant, why = _MEANT.get(word, (word, ""))
    return meant, f"--strategy {word}: {why}" if why else ""
