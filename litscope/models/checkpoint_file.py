"""The file of a checkpoint, read by whoever needs one: to go on, to evaluate, to predict. Imports no Lightning."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from litscope.errors import RunError
from litscope.models.archive import check_archive
from litscope.seals import DamagedError, why_damaged


def load_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, of which nothing is run: tensors and plain values are all that it may hold.

    Args:
        mmap: leave the tensors in the file; for a look at the rest, which takes the answer of an earlier look.

    Raises:
        RunError: if the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        check_archive(path, may_remember=mmap)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except FileNotFoundError:
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
