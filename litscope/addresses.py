"""Addresses that may carry a secret: the query string of one that is presigned, a user's password. No torch.

What comes in from a person is `hidden` at the door: the process remembers the secret (and so do the processes that it
starts, by `VARIABLE`), and everything else has the address as it is `shown`: recipes, logs, messages, ledgers. Only
who opens a file asks for the whole address, `revealed`. A run that goes on elsewhere has no secret: `is_cut` tells.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from litscope.errors import ConfigError

CUT = "***"
"""What stands in an address that is shown where a secret was."""

BETWEEN = "::"
"""What stands between several addresses in one text."""

VARIABLE = "LITSCOPE_ADDRESSES"
"""Variable of the environment that holds what is hidden: a JSON object, shown address -> whole address."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PIPE = re.compile(r"\s*pipe:", re.IGNORECASE)
_SPLIT = re.compile(r"((?:train|val|test)=)?(.*)", re.DOTALL)
_PUNCTUATION = ".,:;"
_ANYWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def is_url(text: str) -> bool:
    """Whether a text is an address with a scheme, allowed or not, rather than a path.

    >>> [is_url(text) for text in ("s3://bucket/x", "pipe:cat x", "./x", "C:/x")]
    [True, True, False, False]
    """
    return SCHEME.match(text) is not None or _PIPE.match(text) is not None


def shown(url: str) -> str:
    """An address as it is written down and printed: without its query string, and who asks.

    >>> shown("https://me:pw@host/x.tar?X-Amz-Signature=abc"), shown("s3://bucket/x.tar"), shown("what?.tar")
    ('https://***@host/x.tar?***', 's3://bucket/x.tar', 'what?.tar')
    """
    match = SCHEME.match(url)
    if match is None or match[1].lower() == "file":
        return url
    scheme, rest = url[: match.end()], url[match.end() :]
    rest = rest.partition("#")[0] if match[1].lower() in ("http", "https") else rest
    place, question, _ = rest.partition("?")
    host, slash, path = place.partition("/")
    who, at, host = host.rpartition("@")
    return f"{scheme}{CUT if who else ''}{at}{host}{slash}{path}{question}{CUT if question else ''}"


def scrubbed(text: str) -> str:
    """A message, or several addresses, with every address in it as it is `shown`.

    >>> scrubbed("403 Forbidden for 'https://host/x?Signature=abc', try again")
    "403 Forbidden for 'https://host/x?***', try again"
    >>> scrubbed("https://host/x?Signature=abc: gone"), scrubbed("see https://host/x?Signature=abc.")
    ('https://host/x?***: gone', 'see https://host/x?***.')
    """

    def cut(match: re.Match[str]) -> str:
        url = match[0].rstrip(_PUNCTUATION)
        return shown(url) + match[0][len(url) :]

    return BETWEEN.join(_ANYWHERE.sub(cut, part) for part in text.split(BETWEEN))


def is_cut(text: str) -> bool:
    """Whether an address, or one of several, is what was shown of another that had a secret.

    >>> is_cut("https://host/x?***"), is_cut("s3://***@host/x"), is_cut("s3://host/***")
    (True, True, False)
    """
    found = [match[0] for part in text.split(BETWEEN) for match in _ANYWHERE.finditer(part)]
    return any(url.endswith(f"?{CUT}") or f"://{CUT}@" in url for url in found)


def absolute(text: str) -> str:
    """A text of one or several addresses, in which each path of this machine is whole.

    >>> absolute("train=s3://b/x-{0..9}.tar::val=/a/../b/{x,y}.tar")
    'train=s3://b/x-{0..9}.tar::val=/b/{x,y}.tar'
    """
    parts = []
    for part in text.split(BETWEEN):
        split, path = _SPLIT.fullmatch(part.strip()).groups("")  # type: ignore[union-attr]  # it matches any text
        parts.append(split + (path if is_url(path) else _whole(path)))
    return BETWEEN.join(parts)


def _whole(path: str) -> str:
    """A path from the root; one that no system has stays, for its reader to refuse."""
    try:
        return str(Path(path).expanduser().resolve())
    except (ValueError, RuntimeError, OSError):  # a null byte; a home of nobody; links in a circle
        return path


def hidden(text: str) -> str:
    """A text with one or several addresses, each as it is `shown`; what that cuts away is remembered.

    Raises:
        ConfigError: if two of them differ only in what is cut away.
    """
    known, new = _remembered(), dict[str, str]()
    for part in text.split(BETWEEN):
        for match in _ANYWHERE.finditer(part):
            url, said = match[0], shown(match[0])
            if said == url or is_cut(url):
                continue
            if new.setdefault(said, url) != url:
                raise ConfigError(
                    f"Two addresses are both {said} without what may be a secret, and litscope writes down nothing "
                    "else of them. Give addresses that differ before the question mark."
                )
    if new:
        os.environ[VARIABLE] = json.dumps(known | new)
    return BETWEEN.join(_ANYWHERE.sub(lambda match: shown(match[0]), part) for part in text.split(BETWEEN))


def revealed(text: str) -> str:
    """The addresses of a text as they were given; those of which nothing is remembered stay as they are."""
    known = _remembered()
    if not known:
        return text
    return BETWEEN.join(
        _ANYWHERE.sub(lambda match: known.get(match[0], match[0]), part) for part in text.split(BETWEEN)
    )


def _remembered() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ.get(VARIABLE, "{}"))
    return found
