"""Checkpoints whose large tensors lie in files beside them, one of each process that trained.

    last.ckpt                      all that is small, and which parts belong to it
    parts/step00000120-3f9c/0.pt   the first process's rows of each divided tensor
    parts/step00000120-3f9c/1.pt   ...

The file names the folder of its parts, and is renamed into place when these are on the disk; so it is whole or not
there, `previous.ckpt` keeps its own parts, and a folder that no checkpoint names is left over.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from litscope.models.archive import check_archive
from litscope.models.shards import is_divided, mapped
from litscope.rundir import whole_file
from litscope.seals import sealed_archive

PARTS = "litscope_parts"
"""Where a checkpoint names the folder of its parts, beside its own, and says how many there are."""

FOLDER = "parts"

_ROWS = "litscope_rows"
"""In the place of a divided tensor: its name in the parts."""


class Divided:
    """A tensor whose rows lie in several files, read where they are asked for.

    Attributes:
        shape: of the whole.
    """

    def __init__(self, shape: Sequence[int], parts: list[Tensor]) -> None:
        self.shape = torch.Size(shape)
        self._parts = parts

    def whole(self) -> Tensor:
        """All rows, copied."""
        return torch.cat(self._parts)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """As `torch.narrow`, of the first dimension."""
        assert dim == 0
        found, at = [], 0
        for part in self._parts:
            first, last = max(start, at), min(start + length, at + len(part))
            if first < last:
                found.append(part[first - at : last - at])
            at += len(part)
        return torch.cat(found) if found else self._parts[0][:0]


def save_file(value: Any, path: Path, former: Path | None = None, guard: Callable[[], object] | None = None) -> None:
    """Write what torch.save writes, sealed, whole or not at all.

    Args:
        former: see `rundir.whole_file`.
        guard: asked before the file gets its name; raises where it must not.

    Raises:
        OSError: if the disk is full or fails.
    """
    try:
        with whole_file(path, former) as file, sealed_archive(file) as archive:
            torch.save(value, archive)
            if guard is not None:
                guard()
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch says that its archive is cut
        if not isinstance(reason, OSError) or reason.errno is None:
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from error


def save_part(checkpoint: dict[str, Any], folder: Path, rank: int, num_parts: int) -> dict[str, Any]:
    """Write this process's rows of all divided tensors of a checkpoint.

    Args:
        folder: `parts/NAME` beside the file that the checkpoint is to have; new, and the same for every process.

    Returns:
        The checkpoint without them, which is complete once every process has written its part.

    Raises:
        OSError: if the disk is full or fails.
    """
    rows: dict[str, Tensor] = {}

    def kept(tensor: Any) -> dict[str, Any]:
        name = str(len(rows))
        rows[name] = tensor.detach().to_local().cpu()
        return {_ROWS: name, "shape": list(tensor.shape)}

    rest = mapped(checkpoint, is_divided, kept)
    save_file(rows, folder / f"{rank}.pt")
    rest[PARTS] = {"folder": f"{FOLDER}/{folder.name}", "count": num_parts}
    return rest  # type: ignore[no-any-return]


def parts_of(checkpoint: dict[str, Any], path: Path) -> list[Path]:
    """The files beside a checkpoint that belong to it; none where it is one file.

    Raises:
        ValueError: if it names none that litscope would write.
    """
    named = checkpoint.get(PARTS)
    if named is None:
        return []
    folder, count = (named.get("folder"), named.get("count")) if isinstance(named, dict) else (None, None)
    is_known = isinstance(folder, str) and re.fullmatch(rf"{FOLDER}/[\w-]+", folder) is not None
    if not is_known or not isinstance(count, int) or count < 1:
        raise ValueError("it does not say where its parts are")
    return [path.parent / str(folder) / f"{i}.pt" for i in range(count)]


def with_parts(checkpoint: Any, path: Path, *, read: bool = True) -> Any:
    """What was read of a checkpoint's file, with `Divided` tensors in their places.

    Args:
        read: False puts tensors without contents there, of the same shape; for a look at the rest.

    Raises:
        FileNotFoundError: if parts are not there.
        DamagedError, ValueError: if they are not what was written.
    """
    if not isinstance(checkpoint, dict) or PARTS not in checkpoint:
        return checkpoint
    files = parts_of(checkpoint, path)
    for file in files:
        check_archive(file, may_remember=True)
    parts = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files] if read else []

    def divided(value: dict[str, Any]) -> Any:
        if not read:
            return torch.empty(value["shape"], device="meta")
        return Divided(value["shape"], [part[value[_ROWS]] for part in parts])

    rest = {name: value for name, value in checkpoint.items() if name != PARTS}
    return mapped(rest, lambda value: isinstance(value, dict) and _ROWS in value, divided)


def joined(checkpoint: Any) -> Any:
    """The same with whole tensors in place of `Divided` ones."""
    return mapped(checkpoint, lambda value: isinstance(value, Divided), Divided.whole)


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint's file, and its parts where it has some.

    Raises:
        OSError: if the disk is full or fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for file in parts_of(torch.load(source, map_location="cpu", weights_only=True, mmap=True), source):
        folder = target.parent / FOLDER / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file.name)
    shutil.copyfile(source, target)


def remove_unnamed(folder: Path) -> None:
    """Remove parts that no checkpoint of a folder names any more. Nobody may write one there meanwhile.

    As long as one of the checkpoints cannot be read, all parts stay: it may name them.
    """
    if not (folder / FOLDER).is_dir():
        return
    named: set[Path] = set()
    try:
        for path in folder.glob("*.ckpt"):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            named.update(file.parent for file in parts_of(checkpoint, path))
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        return
    for part in (folder / FOLDER).iterdir():
        if part not in named:
            shutil.rmtree(part)
    if not named:
        (folder / FOLDER).rmdir()
