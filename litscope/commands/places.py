"""Whether what a command is given is there: asked before anything large is imported, so a wrong path is told at once.

Whoever opens it later asks the same functions, so the sentences are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.rundir import RunDir

if TYPE_CHECKING:
    from litscope.config.recipe import Recipe


def require_data(recipe: Recipe) -> None:
    """Refuse a recipe whose data or decisions are not there; its own check has looked at its other files.

    Raises:
        DataError, RunError: naming the path.
    """
    from litscope.data.sources.names import require_dataset
    from litscope.runs import find_actions

    if recipe.data.origin is not None:
        require_dataset(recipe.data.origin)
    if recipe.data.actions is not None:
        find_actions(recipe.data.actions)


def trained_run(given: dict[str, Any]) -> Path | None:
    """The run of a command that uses what was trained, after a look at the paths that it was given.

    Args:
        given: `run`, which may be a checkpoint file, `checkpoint`, `dataset`, and of `predict` also `paths`.

    Returns:
        Its folder; None for a checkpoint that lies in none.

    Raises:
        RunError: if there is no such run or checkpoint.
        DataError: if there are no such data.
    """
    from litscope.config.resume import checkpoint_of, find_checkpoint
    from litscope.data.sources.names import require_dataset, require_paths
    from litscope.data.sources.shard_names import is_addressed, require_there

    if Path(given["run"]).is_file():
        folder = find_checkpoint(given["run"])[1]
    else:
        folder = RunDir.open(given["run"]).path
        checkpoint_of(RunDir(folder), given["checkpoint"])
    if given["dataset"] is not None:
        require_dataset(given["dataset"])
    paths = [path for path in given.get("paths", ()) if not is_addressed(path)]
    require_paths(paths)
    for path in set(given.get("paths", ())).difference(paths):
        require_there(path)
    return folder
