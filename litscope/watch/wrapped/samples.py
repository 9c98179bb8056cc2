"""What a script asks for its own samples: tags and discards, through the run's journal as `litscope tag` would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from litscope.console import warn
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import decisions, request, submit, wait_for_answer
from litscope.watch.wrapped.processes import is_first_process, num_processes
from litscope.watch.wrapped.watched import Watched, current, latest, newest_run

WHY = "asked for by the script"

Ids = Iterable[Any]


def tag_samples(sample_ids: Ids, tag: str, mode: str = "add") -> bool:
    """Give samples a tag, or take it away.

    It is in force when this returns; in a run of several processes, all of which call it, soon after.

    Args:
        sample_ids: whole numbers, as the batches of watched loaders carry them.
        tag: its name.
        mode: add; remove; or set: the samples' other tags are taken away.

    Returns:
        Whether the run took it; else a warning says why not.

    Raises:
        ConfigError: if an id is no sample's, or the mode is unknown.
    """
    if mode not in ("add", "remove", "set"):
        raise ConfigError(f"mode={mode!r}: it is add, remove or set.")
    watched, ids = _asked(sample_ids)
    name = tag.strip()
    if mode == "remove":
        return _ask(watched, "untag", ids, tag=name)
    if mode == "set":
        for other, tagged in _tags().items():
            if other != name and not _ask(watched, "untag", [i for i in ids if i in tagged], tag=other):
                return False
    return _ask(watched, "tag", ids, tag=name)


def discard_samples(sample_ids: Ids, discarded: bool = True) -> bool:
    """Leave samples out of what watched loaders draw next, or take them back in.

    Args:
        sample_ids: as of `tag_samples`.
        discarded: False takes them back.

    Returns:
        As `tag_samples`: the run refuses it if too few samples would be left.

    Raises:
        ConfigError: if an id is no sample's.
    """
    watched, ids = _asked(sample_ids)
    return _ask(watched, "discard" if discarded else "restore", ids)


def get_samples_by_tag(tag: str, origin: str | None = None, limit: int | None = None) -> list[int]:
    """The samples that have a tag, whoever gave it, in ascending order.

    Args:
        tag: its name.
        origin: only those of the loader of this name (`loader_name`); None: all.
        limit: at most so many; None: all.

    Raises:
        ConfigError: if no loader has that name.
    """
    return _chosen(_tags().get(tag.strip(), set()), origin, limit)


def get_discarded_samples(origin: str | None = None, limit: int | None = None) -> list[int]:
    """The samples that are left out, whoever asked for it; arguments and order are those of `get_samples_by_tag`."""
    run = newest_run()
    return _chosen(set() if run is None else decisions(run).discarded, origin, limit)


def register_categorical_tag(name: str, categories: Iterable[str], replace: bool = False) -> list[str]:
    """Say which values a tag of several values may have; returns them.

    Args:
        name: of the tag.
        categories: its values.
        replace: forget those that were registered before.
    """
    known = current().categories
    before = [] if replace else known.get(name, [])
    known[name] = list(dict.fromkeys([*before, *map(str, categories)]))
    return list(known[name])


def set_categorical_tag(sample_ids: Ids, name: str, value: str | None) -> bool:
    """Give samples one value of a tag of several: the tag `name=value`, in place of their other ones of this name.

    Args:
        sample_ids: as of `tag_samples`.
        name: of the tag.
        value: None or an empty text takes it away.

    Returns:
        As `tag_samples`.

    Raises:
        ConfigError: if an id is no sample's.
    """
    watched, ids = _asked(sample_ids)
    text = "" if value is None else str(value).strip()
    wanted = f"{name}={text}"
    for other, tagged in _tags().items():
        is_older = other.startswith(f"{name}=") and not (text and other == wanted)
        if is_older and not _ask(watched, "untag", [i for i in ids if i in tagged], tag=other):
            return False
    if not text:
        return True
    register_categorical_tag(name, [text])
    return _ask(watched, "tag", ids, tag=wanted)


def _asked(sample_ids: Ids) -> tuple[Watched, list[int]]:
    """What is watched, its run open, and the ids as numbers."""
    watched = current()
    if watched.run is None and not watched.loaders:
        raise ConfigError(
            "No run with samples is under watch. Call this after watch_or_edit(dataset, flag='data') and before "
            "keep_serving; of a run that is over: litscope tag, litscope discard."
        )
    if not watched.open():
        raise ConfigError("Samples can be tagged and discarded while a run is open, not in Lightning's sanity check.")
    try:
        ids = [int(i) for i in (sample_ids.tolist() if isinstance(sample_ids, torch.Tensor) else sample_ids)]
    except (TypeError, ValueError):
        raise ConfigError("sample_ids must be whole numbers, the second part of a watched loader's batches.") from None
    count = len(watched.session.roster)
    wrong = [i for i in ids if not 0 <= i < count]
    if wrong:
        raise ConfigError(
            f"sample_id {wrong[0]}: the run knows {count:,} samples, from 0. Ids are those that batches of watched "
            "loaders carry, whatever the data set yields itself."
        )
    return watched, ids


def _ask(watched: Watched, what: str, ids: list[int], **arguments: Any) -> bool:
    """Write a request into the journal, and have it applied at once if there is one process."""
    if not ids or not is_first_process():
        return True
    run = watched.session.run
    action = request(what, why=WHY, sample_id=ids, **arguments)
    submit(run, action)
    if num_processes() > 1:  # all of them have to apply it after the same step
        return True
    watched.session.apply_actions()
    answer = wait_for_answer(run, action["id"], 0.0)
    if answer is None or answer["status"] == "applied":
        return True
    warn(f"{what}: {answer['reason']}")
    return False


def _tags() -> dict[str, set[int]]:
    run = newest_run()
    return {} if run is None else decisions(run).tags


def _chosen(ids: set[int], origin: str | None, limit: int | None) -> list[int]:
    if origin is not None:
        ids = ids & set((latest() or current()).ids_of(origin).tolist())
    return sorted(ids)[: limit or None]
