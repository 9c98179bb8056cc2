"""The file of a checkpoint, read by whoever needs one: to go on, to evaluate, to predict. Imports no Lightning."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from litscope.errors import RunError
from litscope.models.archive import check_archive
from litscope.models.checkpoint_parts import FOLDER, joined, save_file, with_parts
from litscope.seals import DamagedError, why_damaged


def load_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, of which nothing is run: tensors and plain values are all that it may hold.

    Args:
        mmap: leave the tensors in the file; for a look at the rest, which takes the answer of an earlier look. Of a
            checkpoint in parts, tensors have a shape alone.

    Raises:
        RunError: if the file or one of its parts is missing, damaged, or holds more than tensors and plain values.
    """
    checkpoint: dict[str, Any] = joined(_read(path, map_location, mmap, reads_parts=not mmap))
    return checkpoint


def map_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """As `load_checkpoint`, with all tensors left in their files until they are looked at: those of a checkpoint in
    parts are `checkpoint_parts.Divided`. For a process that takes its share of them.

    Raises:
        RunError: as `load_checkpoint`.
    """
    return _read(path, "cpu", mmap=True, reads_parts=True)


def put_into(path: Path, name: str, value: Any, guard: Callable[[], object] | None = None) -> None:
    """Put a plain value into the file of a checkpoint under a name, or take it out; whole or not at all, and sealed.

    Args:
        value: None takes out what has the name.
        guard: see `checkpoint_parts.save_file`.

    Raises:
        RunError: as `load_checkpoint`; a damaged file stays as it is.
        OSError: if it cannot be written.
    """
    checkpoint = _read(path, "cpu", mmap=False, reads_parts=None)
    checkpoint.pop(name, None)
    save_file(checkpoint if value is None else {**checkpoint, name: value}, path, guard=guard)


def _read(path: str | os.PathLike[str], map_location: Any, mmap: bool, reads_parts: bool | None) -> dict[str, Any]:
    """The contents of a file.

    Args:
        reads_parts: of a checkpoint in parts: put their tensors, or tensors without contents, in their places; None
            leaves it as it is.
    """
    try:
        check_archive(path, may_remember=mmap)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        if reads_parts is not None:
            checkpoint = with_parts(checkpoint, Path(path), read=reads_parts)
    except FileNotFoundError as error:
        if Path(path).exists():
            raise RunError(
                f"{path} is a checkpoint in parts, and {error.filename} is not there. "
                f"Copy the folder {FOLDER}/ with it. {_whole_ones(Path(path))}"
            ) from None
        raise RunError(f"The checkpoint {path} does not exist.") from None
    except DamagedError as error:
        raise RunError(f"{path} is damaged: {error}. {_whole_ones(Path(path))}") from error
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds Python objects, which litscope does not unpickle."
        raise RunError(f"{path} cannot be read as a checkpoint: {reason}") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise RunError(f"{path} is not a checkpoint: it has no 'state_dict'. For plain weights use --weights.")
    return checkpoint


def _whole_ones(damaged: Path) -> str:
    """What can be used in place of a damaged checkpoint, a sentence."""
    beside = sorted(p for p in damaged.parent.glob("*.ckpt") if p.is_file() and not p.samefile(damaged))
    whole = [path.name for path in beside if why_damaged(path) is None]
    return f"Whole, beside it: {', '.join(whole)}." if whole else "There is no other one beside it."
