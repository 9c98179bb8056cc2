"""A readout in the files of a run: put beside the weights that it was learned with, or taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from litscope.ledger.uncertainties import how_to_record
from litscope.models.checkpoint_file import load_checkpoint, put_into
from litscope.models.readout import READOUT, Readout
from litscope.rundir import BEST, LAST, PREVIOUS, RunDir, name_also


def keep(checkpoint: Path, readout: Readout | None, guard: Callable[[], object] | None = None) -> None:
    """Keep a readout in a checkpoint; None, or one that changes nothing, takes out what is there. As `keep_value`."""
    keep_value(checkpoint, READOUT, None if readout is None or readout.is_plain else readout.to_dict(), guard)


def keep_value(checkpoint: Path, name: str, value: Any, guard: Callable[[], object] | None = None) -> None:
    """Keep a plain value in a checkpoint under a name; None takes it out. The file is whole at any moment.

    The best checkpoint of a run has two names, of which the one that says epoch and value is written, and the other,
    best.ckpt, stands for the same file afterwards.

    Args:
        guard: asked before the file gets its name; raises where it must not.

    Raises:
        RunError: if the file is damaged; it stays as it is.
        OSError: if it cannot be written.
    """
    alias = checkpoint.with_name(BEST)
    is_named_so = alias != checkpoint and alias.is_file() and _is_same(checkpoint, alias)
    named = [path for path in checkpoint.parent.glob("*.ckpt") if _is_other_name(path, checkpoint)]
    put_into(checkpoint, name, value, guard)
    if is_named_so:
        name_also(checkpoint, alias)
    elif checkpoint.name == BEST:
        for path in named:
            name_also(checkpoint, path)


def _is_same(checkpoint: Path, alias: Path) -> bool:
    """Whether both hold the same weights: they are one file, or a process was killed before it named the second."""
    if checkpoint.samefile(alias):
        return True
    steps = [load_checkpoint(path, mmap=True).get("global_step") for path in (checkpoint, alias)]
    return steps[0] is not None and steps[0] == steps[1]


def _is_other_name(path: Path, checkpoint: Path) -> bool:
    return path.name not in (LAST, PREVIOUS) and path != checkpoint and path.samefile(checkpoint)


def outdated(run: RunDir) -> list[str]:
    """A line where a run keeps how sure its network was of samples, and that is another now, or read otherwise."""
    if not run.uncertainties.exists():
        return []
    return [
        f"what --record has kept is of the weights and the readout of before. To keep it anew: {how_to_record(run)}"
    ]


def in_words(readout: Readout, names: Sequence[str] = ()) -> str:
    """What a readout does, in a line."""
    parts = []
    if readout.method == "temperature":
        parts.append(f"logits divided by {readout.temperature:.3f}")
    elif readout.method == "vector":
        parts.append("logits scaled by a vector")
    if readout.threshold is not None:
        of = f"p({names[1]})" if names else "the second class"
        parts.append(f"a threshold of {readout.threshold:.4f} on {of} for {readout.aim}")
    if readout.sets is not None:
        kind = readout.sets.method + (" by class" if readout.sets.by_class else "")
        parts.append(f"sets ({kind}) for a coverage of {readout.sets.coverage:g}")
    return ", ".join(parts) or "logits as they are"
