"""Texts that name shards by their addresses: told apart from other data sets before Arrow or torch is imported.

    s3://bucket/flowers/                               a folder: its index, or else all tar files in it
    s3://bucket/flowers/train-{0000..0099}.tar         tar files
    train=s3://b/{000..099}.tar::val=s3://b/1{00..09}.tar   of each split

Nothing is asked of a server here: `addressed` does.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from litscope.addresses import BETWEEN, hidden, is_cut, is_url, revealed
from litscope.data.storage.urls import addresses, local_path, name_of
from litscope.defaults import SHARD_INDEX
from litscope.errors import ConfigError, DataError

_SPLITS = ("train", "val", "test")
_TAR = ".tar"
_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


def is_addressed(dataset: str) -> bool:
    """Whether a text names shards by their addresses, rather than a data set or a file of another kind.

    >>> [is_addressed(text) for text in ("s3://bucket/x/", "train=a.tar", "a/{0..9}.tar", "photos", "photos.csv")]
    [True, True, True, False, False]
    """
    if dataset.partition("=")[0] in _SPLITS and "=" in dataset:
        return True
    if any(is_url(part) or part.lower().endswith(_TAR) or _COMPRESSED.search(part) for part in dataset.split(BETWEEN)):
        return True
    try:
        path = Path(dataset).expanduser()
    except RuntimeError:  # a home of nobody, which its reader tells
        return False
    return path.is_dir() and not (path / SHARD_INDEX).exists() and _holds_only_tars(path)


def _holds_only_tars(folder: Path) -> bool:
    """Whether there are tar files in it, and no folders; not of one that cannot be read, which its reader tells."""
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return False
    return any(entry.name.lower().endswith(_TAR) for entry in found) and not any(entry.is_dir() for entry in found)


def by_split(dataset: str) -> dict[str, list[str]]:
    """Split ("" where none is said) -> its addresses, in order, with their secrets.

    Raises:
        ConfigError: for addresses that cannot be; for one whose secret is known to nobody here.
    """
    texts: dict[str, list[str]] = {}
    split = ""
    for part in dataset.split(BETWEEN):
        name, is_said, rest = part.partition("=")
        if is_said and name.strip() in _SPLITS:
            split, part = name.strip(), rest
        texts.setdefault(split, []).append(part)
    found: dict[str, list[str]] = {}
    for split, parts in texts.items():
        text = BETWEEN.join(parts)
        whole = revealed(text)
        if is_cut(whole):
            flag = f"--{split}-urls" if split else "--dataset"
            raise ConfigError(
                f"{text}: a part of the address was a secret (a signature, or a password), which is kept nowhere. Give "
                f"the whole address again, with {flag}."
            )
        found[split] = [hidden(one) for one in addresses(whole)]
        for url in found[split]:
            path = local_path(url)
            if "*" in name_of(url) and not (path is not None and path.exists()):
                raise ConfigError(
                    f"{url}: no pattern with * is read. Give the folder, which is all tar files in it, or braces: "
                    "train-{0000..0099}.tar."
                )
            if _COMPRESSED.search(name_of(url)) is not None:
                raise ConfigError(
                    f"{url} is a compressed tar file, in which no sample can be read by itself. Unpack it, and give "
                    "the .tar: images are compressed already."
                )
    seen: set[str] = set()
    for urls in found.values():
        if both := sorted(seen.intersection(urls)):
            raise ConfigError(f"{both[0]} is named for two splits. A sample is in one: leave it out of the other.")
        seen.update(urls)
    return found


def require_there(dataset: str) -> None:
    """Look at what can be looked at without a server: the addresses, and files of this machine.

    Raises:
        ConfigError, DataError: naming the first that cannot be.
    """
    for urls in by_split(dataset).values():
        for url in urls:
            path = local_path(url)
            if path is not None and not path.exists():
                raise DataError(f"{url} does not exist.")
