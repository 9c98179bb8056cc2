"""Numbers of bytes as people write them. No torch.

>>> num_bytes("256M"), num_bytes("1.5G"), is_size("much")
(256000000, 1500000000, 'it is a number of bytes, such as 5000000, 256M or 1.5G.')
"""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?")


def num_bytes(text: str) -> int:
    """What 1000, 64K, 256M, 1.5G or 2T means; K, M, G and T are thousands.

    Raises:
        ValueError: for anything else.
    """
    found = _FORM.fullmatch(text.strip().upper())
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * _UNITS[found[2]])


def is_size(text: str) -> str | None:
    """A check of a setting (`litscope.settings.Check`): what is allowed, if this is no number of bytes."""
    try:
        num_bytes(text)
    except ValueError:
        return "it is a number of bytes, such as 5000000, 256M or 1.5G."
    return None
