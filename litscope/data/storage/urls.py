"""Addresses of files: what people write, and which are allowed. No torch.

    s3://bucket/train-{0000..0099}.tar        one hundred addresses
    shards/{train,val}-000{0..3}.tar::x.tar   nine of them: `::` stands between several

How they are shown without their secrets, `litscope.addresses` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from litscope.addresses import BETWEEN, SCHEME, is_url, shown
from litscope.errors import ConfigError, did_you_mean

SCHEMES = ("file", "http", "https", "s3", "gs")
"""What an address may begin with."""

_QUOTED = ("http://", "https://", "file://")
_MOST = 1_000_000
_PIPE = re.compile(r"\s*pipe:", re.IGNORECASE)
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:\.\.(-?[0-9]+))?|([A-Za-z])\.\.([A-Za-z])")
_STANDS_FOR = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "http+unix": "http", "ftp": "https", "wss": "https"}


def addresses(given: str | Sequence[str]) -> list[str]:
    """All addresses that a text, or several, stand for; each is allowed.

    Args:
        given: paths and URLs, with braces; in one text `::` stands between several.

    Raises:
        ConfigError: for a scheme that is not allowed, braces that are not closed, or an address that comes twice.
    """
    texts = given.split(BETWEEN) if isinstance(given, str) else [part for one in given for part in one.split(BETWEEN)]
    found: dict[str, None] = {}
    for text in (text.strip() for text in texts):
        if not text:
            continue
        for one in [text] if not is_url(text) and Path(text).expanduser().exists() else expand(text):
            require_allowed(one)
            one = SCHEME.sub(lambda match: match[0].lower(), one, count=1)
            if one in found:
                raise ConfigError(f"{shown(one)} is named twice; each shard is read once. Leave one out.")
            found[one] = None
    if not found:
        raise ConfigError("No address is given. Name tar files: s3://bucket/train-{0000..0099}.tar, or a path.")
    return list(found)


def require_allowed(url: str) -> None:
    """Refuse an address that is none of ours.

    Raises:
        ConfigError: saying what is allowed.
    """
    if _PIPE.match(url):
        raise ConfigError(
            f"{url.strip()[:40]!r} would run a program, which data must not do. Give the address itself: a path, "
            f"{_allowed()}."
        )
    if (match := SCHEME.match(url)) is None:
        return
    scheme = match[1].lower()
    if scheme not in SCHEMES:
        known = f" Did you mean {_STANDS_FOR[scheme]}://?" if scheme in _STANDS_FOR else did_you_mean(scheme, SCHEMES)
        raise ConfigError(f"{shown(url)}: {scheme}:// is not known; give a path, {_allowed()}.{known}")
    if scheme != "file" and not urlsplit(url).netloc:
        raise ConfigError(f"{shown(url)} names no {'bucket' if scheme in ('s3', 'gs') else 'host'}.")
    if scheme == "file" and urlsplit(url).netloc not in ("", "localhost"):
        raise ConfigError(f"{shown(url)}: a file of this machine has three slashes, file:///folder/name.tar.")


def _allowed() -> str:
    return f"{', '.join(f'{scheme}://' for scheme in SCHEMES[:-1])} or {SCHEMES[-1]}://"


# ---- their parts -------------------------------------------------------------------------------


def name_of(url: str) -> str:
    """The last part of an address or a path, without its query string.

    >>> name_of("https://host/a/train-0000.tar?sig=1"), name_of("s3://bucket/a/x.tar"), name_of("a/b.tar")
    ('train-0000.tar', 'x.tar', 'b.tar')
    """
    return _split(url)[1]


def folder_of(url: str) -> str:
    """What comes before the last part, without a slash at its end; "." for a bare name."""
    return _split(url)[0] or "."


def join(folder: str, name: str) -> str:
    """The address of a file in a folder; the folder's query string stays behind it.

    >>> join("s3://bucket/a/", "x.tar"), join("https://host/a?sig=1", "x.tar"), join("shards", "x.tar")
    ('s3://bucket/a/x.tar', 'https://host/a/x.tar?sig=1', 'shards/x.tar')
    """
    place, query = _without_query(folder)
    if folder.lower().startswith(_QUOTED):
        name = quote(name)
    return f"{place}{'' if place.endswith('/') else '/'}{name}{query}"


def place_of(folder: str | Path, name: str) -> str:
    """Where a file lies: the name itself, if it is a whole path or address, else in the folder.

    >>> place_of("s3://b/x", "a.tar"), place_of("shards", "/y/a.tar"), place_of("shards", "s3://b/a.tar")
    ('s3://b/x/a.tar', '/y/a.tar', 's3://b/a.tar')
    """
    if is_url(name) or Path(name).is_absolute() or not str(folder):
        return name
    return join(str(folder), name)


def local_path(url: str) -> Path | None:
    """The path of an address on this machine; None for one that is elsewhere.

    >>> local_path("file:///a/b%20c.tar"), local_path("a.tar"), local_path("s3://bucket/a.tar")
    (PosixPath('/a/b c.tar'), PosixPath('a.tar'), None)
    """
    match = SCHEME.match(url)
    if match is None:
        return Path(url).expanduser()
    return Path(unquote(urlsplit(url).path)) if match[1].lower() == "file" else None


def _split(url: str) -> tuple[str, str]:
    folder, _, name = _without_query(url)[0].rstrip("/").rpartition("/")
    return folder, unquote(name) if url.lower().startswith(_QUOTED) else name


def _without_query(url: str) -> tuple[str, str]:
    match = SCHEME.match(url)
    if match is None or match[1].lower() not in ("http", "https"):
        return url, ""
    place, question, query = url.partition("?")
    return place, question + query


# ---- braces ------------------------------------------------------------------------------------


def expand(text: str) -> list[str]:
    """The texts that one with braces stands for, as a shell expands it, in order. A query string is left as it is.

    >>> expand("x-{08..10}.tar"), expand("{a,b}{1..2}"), expand("{a}")
    (['x-08.tar', 'x-09.tar', 'x-10.tar'], ['a1', 'a2', 'b1', 'b2'], ['{a}'])

    Raises:
        ConfigError: for a brace that is not closed, or more than a million texts.
    """
    place, query = _without_query(text)
    depth = 0
    for letter in place:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            break
    if depth:
        raise ConfigError(
            f"{shown(text)}: a brace is not closed. Write several as train-{{0000..0099}}.tar or {{a,b}}."
        )
    found: list[str] = []
    for one in _expanded(place):
        found.append(one + query)
        if len(found) > _MOST:
            raise ConfigError(f"{shown(text)} stands for more than {_MOST:,} addresses.")
    return found


def _expanded(text: str) -> Iterator[str]:
    start = text.find("{")
    if start < 0:
        yield text
        return
    end = _closing(text, start)
    inside, after = text[start + 1 : end], text[end + 1 :]
    choices = _choices(inside)
    if choices is None:
        middle: Iterable[str] = (f"{{{one}}}" for one in _expanded(inside))
    else:
        middle = choices
    tails = list(islice(_expanded(after), _MOST + 1))
    for one, tail in product(middle, tails):
        yield f"{text[:start]}{one}{tail}"


def _closing(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return at
    raise AssertionError("braces were counted before")


def _choices(inside: str) -> Iterator[str] | None:
    """What stands for a pair of braces; None where they stand for themselves."""
    match = _RANGE.fullmatch(inside)
    if match is not None:
        return _counted(match)
    parts, depth = [""], 0
    for letter in inside:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return None if len(parts) == 1 else (one for part in parts for one in _expanded(part))


def _counted(match: re.Match[str]) -> Iterator[str]:
    if match[4] is not None:
        first, last = ord(match[4]), ord(match[5])
        return (chr(code) for code in range(first, last + (1 if last >= first else -1), 1 if last >= first else -1))
    first, last = int(match[1]), int(match[2])
    step = max(1, abs(int(match[3] or 1)))
    has_zeros = any(re.match(r"-?0[0-9]", end) for end in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if has_zeros else 0
    numbers = range(first, last + 1, step) if last >= first else range(first, last - 1, -step)
    if len(numbers) > _MOST:
        raise ConfigError(f"{{{match[0]}}} stands for more than {_MOST:,} addresses.")
    return (f"{number:0{width}d}" for number in numbers)
