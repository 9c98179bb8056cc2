"""The `hardware` section of a recipe: where the run computes. Words and syntax only; no torch.

Whether this machine can do it is answered in `training/hardware.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from litscope.config.section import Section, one_of
from litscope.config.strategies import why_no_strategy
from litscope.settings import COUNT, Range, setting

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
"""What `--accelerator` takes; cuda is gpu, but never an Apple GPU."""

SIGNALS = ("USR1", "USR2", "TERM", "HUP", "XCPU")
"""What `--signal` takes: POSIX signals that schedulers send, and a process may catch."""

Precision = Literal[
    "auto", "16", "bf16", "32", "64", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "32-true", "64-true"
]

PRECISIONS = {
    "16": "16-mixed",
    "bf16": "bf16-mixed",
    "32": "32-true",
    "64": "64-true",
    "16-mixed": "16-mixed",
    "bf16-mixed": "bf16-mixed",
    "16-true": "16-true",
    "bf16-true": "bf16-true",
    "32-true": "32-true",
    "64-true": "64-true",
}
"""Every spelling that `--precision` takes but auto, and Lightning's full name for it."""


def _accelerator(word: str) -> str | None:
    # A TPU is refused where the machine is looked at, with a sentence that says what is here instead.
    return None if word == "tpu" else one_of(*ACCELERATORS)(word)


def _devices(text: str) -> str | None:
    if re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)*,?", text) and text != "0":
        return None
    return "it is a number of devices (2), their numbers (0,3; only the first: 0,), or auto."


def least_unit(wrap: str) -> int | None:
    """N of a --fsdp-wrap `size:N`; None for another word.

    >>> least_unit("size:1e6"), least_unit("size:250000"), least_unit("block")
    (1000000, 250000, None)
    """
    found = re.fullmatch(r"size:(\d+(?:\.\d+)?(?:e\d+)?)", wrap)
    return int(float(found[1])) if found else None


def _wrap(text: str) -> str | None:
    if text in ("auto", "block") or (least_unit(text) or 0) > 0:
        return None
    return "it is auto, block, or size:N with a number of parameters (size:1e6)."


@dataclass
class HardwareConfig(Section, group="hardware"):
    """Where the run computes."""

    accelerator: str = setting("auto", check=_accelerator)
    """auto, cpu, gpu (cuda), mps."""
    devices: str = setting("auto", "gpus", check=_devices, takes=(int, Sequence[int]))
    """How many devices (2), which ones (0,3), or auto: one for each process that srun or torchrun started on a machine,
    else every GPU, or one CPU process."""
    num_nodes: int | None = setting(None, "nodes", check=COUNT)
    """Number of machines, or auto: as many as srun or torchrun started the run on, else one. Without these, start the
    same command on each, with NODE_RANK, MASTER_ADDR and MASTER_PORT set."""
    rank_timeout: float = setting(60.0, check=Range(least=5))
    """Seconds after which a run on several devices ends, if one of its processes is stopped, killed or cut off."""
    strategy: str = setting("auto", check=why_no_strategy)
    """How several devices share the work: auto and ddp (each has the whole network), ddp_find_unused_parameters_true,
    fsdp or fsdp_full (each keeps a share of weights, gradients and optimizer state), fsdp_shard_grad (weights stay
    together from forward to backward), no_shard (is ddp), ddp_spawn (is ddp)."""
    fsdp_wrap: str = setting("auto", check=_wrap)
    """Which parts of the network are gathered one at a time under fsdp: block (its repeated blocks), size:1e6 (parts
    with so many parameters), auto (blocks, else size:1e6)."""
    cpu_offload: bool = False
    """Keep each share of an fsdp strategy in the CPU's memory while it is not in use (GPUs only)."""
    activation_checkpointing: bool = False
    """Compute the inside of each block of the network again in the backward pass, instead of keeping it in memory."""
    precision: Precision = setting("auto", takes=(Literal[16, 32, 64],))
    """auto (bf16-mixed on a GPU that supports it, and on a CPU if the network is clearly faster with it; else 32), 32,
    bf16, 16, or Lightning's full names."""
    channels_last: bool | None = setting(None, is_for_images=True)
    """Keep images and weights in channels-last memory. Default: if the network takes it, and is not clearly slower
    with it on a CPU."""
    num_threads: int | None = setting(None, check=COUNT)
    """torch's threads in each process on a CPU. Default: one per core, which the processes of a machine share, or a
    single one if a small network is clearly faster that way."""
    sync_batchnorm: bool = False
    """Batch-norm statistics over all devices (GPUs only)."""
    use_distributed_sampler: bool = True
    """Each device sees its own share of the data; off, every device sees all of it."""
    signal: str = setting("USR1", check=one_of(*SIGNALS))
    """The signal by which a scheduler wants the machine back, beside SIGTERM: USR1, USR2, TERM, HUP or XCPU. The run
    writes a checkpoint at the end of the step, and stops."""
    requeue: bool = True
    """Put the batch job back into the queue where a scheduler's signal has stopped the run; the job's next start goes
    on with it. Slurm's job has the last word (sbatch --no-requeue)."""
