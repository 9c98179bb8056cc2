"""The samples of a tar file that others wrote, as webdataset reads it: members of one name are one sample.

    photo.v2.jpg     an image; the sample's name is all before its suffix
    photo.v2.cls     its label, a number or a name; so is photo.cls, where it is of one image, and photo.v2.cls.txt
    photo.v2.json    of which one field may be the label

The members of a sample may come in any order, and need not stand together. Nothing else is read: no pickled member is
ever opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from litscope.data.reading import images
from litscope.data.reading.digests import bytes_digest
from litscope.data.shards.members import Fetch, Member, Window, members
from litscope.errors import DataError

_MOST_OTHERS = 12  # endings of members that are neither images nor labels
_LABEL_BYTES = 1 << 16
_JSON_BYTES = 1 << 24
_CLASS = (".cls", ".cls.txt")


class UnclearError(DataError):
    """The file is whole, but what was asked does not say which image or which label of a sample is meant."""


@dataclass(frozen=True)
class Asked:
    """How samples are read out of a tar file.

    Attributes:
        field: of the .json member that holds the label, `a.b` for one within another; None: the label is .cls.
        image_suffix: of the members that are the images, such as `input.jpg`; None: all that are image files.
        has_checksums: take the digest of every image, for which all bytes are read.
        has_table: labels come from elsewhere, and none is read.
    """

    field: str | None = None
    image_suffix: str | None = None
    has_checksums: bool = False
    has_table: bool = False


@dataclass
class Sample:
    """An image in a tar file.

    Attributes:
        name: without its suffix.
        offset, size: of its bytes.
        suffix: with a dot, in small letters.
        digest: of its bytes, where that was asked for.
        label: as text; None for none.
    """

    name: str
    offset: int
    size: int
    suffix: str
    digest: bytes | None = None
    label: str | None = None


@dataclass
class Scan:
    """What a tar file holds.

    Attributes:
        samples: in the order of their bytes.
        num_bytes: of the file.
        digest: of the file, where all of it was read; else "".
        without_image: names of labels that belong to no image.
        fields: of the first .json member, where there is one: they may be labels.
        others: endings of members that are neither images nor labels, some.
        why: the file is not whole, and the samples are those that come before; "" if it is.
        unclear: what was asked does not say what is meant; "" if it does.
    """

    samples: list[Sample] = field(default_factory=list)
    num_bytes: int = 0
    digest: str = ""
    without_image: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    why: str = ""
    unclear: str = ""


def scan(fetch: Fetch, num_bytes: int, piece: int, asked: Asked) -> Scan:
    """Read a tar file's headers, and its labels.

    Args:
        fetch: reads the file.
        num_bytes: of the file.
        piece: see `members.Window`.
    """
    window, found = Window(fetch, num_bytes, piece, asked.has_checksums), Scan(num_bytes=num_bytes)
    by_name: dict[str, Sample] = {}
    labels: dict[str, str | None] = {}
    try:
        for member in members(window):
            _take(member, window, asked, found, by_name, labels)
        found.digest = window.hexdigest()
    except UnclearError as error:
        found.unclear = str(error)
    except DataError as error:
        found.why = str(error)
    found.samples = list(by_name.values())
    _give_labels(found, labels)
    return found


def _take(
    member: Member,
    window: Window,
    asked: Asked,
    found: Scan,
    by_name: dict[str, Sample],
    labels: dict[str, str | None],
) -> None:
    folder, slash, base = member.name.removeprefix("./").rpartition("/")
    lower = base.lower()
    if base.startswith("."):  # also what macOS packs beside each file
        return
    if (suffix := _image_suffix(lower, asked.image_suffix)) is not None:
        name = f"{folder}{slash}{base[: len(base) - len(suffix)]}"
        other = by_name.get(name)
        if other is not None:
            if other.suffix == suffix:
                raise DataError(
                    f"at byte {member.offset:,}: a second sample {name!r}; the first is at byte {other.offset:,}. "
                    "Samples of one name are one sample to whoever reads the file: give each a name of its own"
                )
            raise UnclearError(
                f"at byte {member.offset:,}: a second image of the sample {name!r} ({suffix}; {other.suffix} at byte "
                f"{other.offset:,}). If a sample has several images, say which is meant: "
                f"litscope index ... --image-suffix {other.suffix[1:]}"
            )
        digest = bytes_digest(window.at(member.offset, member.size)) if asked.has_checksums else None
        kind = suffix[suffix.rindex(".") :]
        by_name[name] = Sample(name, member.offset, member.size, kind, digest)
    elif asked.has_table:
        return
    elif asked.field is None and lower.endswith(_CLASS):
        ending = next(ending for ending in _CLASS if lower.endswith(ending))
        labels[f"{folder}{slash}{base[: len(base) - len(ending)]}"] = _class_text(member, window)
    elif lower.endswith(".json") and (asked.field is not None or not found.fields):
        if asked.field is None and member.size > _LABEL_BYTES:
            return
        facts = _json(member, window, must_be_read=asked.field is not None)
        if isinstance(facts, dict):
            found.fields = found.fields or list(map(str, facts))
        if asked.field is not None:
            labels[f"{folder}{slash}{base[: -len('.json')]}"] = _field_text(facts, asked.field, member)
    elif len(found.others) < _MOST_OTHERS and (ending := lower.partition(".")[2]) and ending not in found.others:
        found.others.append(ending)


def _image_suffix(lower: str, wanted: str | None) -> str | None:
    """The suffix of an image's name, with its dot; None for what is none."""
    if wanted is not None:
        suffix = f".{wanted.lower().removeprefix('.')}"
        return suffix if lower.endswith(suffix) and len(lower) > len(suffix) else None
    at = lower.rfind(".")
    return lower[at:] if at > 0 and lower[at:] in images.SUFFIXES else None


def _class_text(member: Member, window: Window) -> str | None:
    if member.size > _LABEL_BYTES:
        raise DataError(f"at byte {member.offset:,}: a label of {member.size:,} bytes ({member.name})")
    try:
        text = window.at(member.offset, member.size).decode().strip()
    except UnicodeDecodeError:
        raise DataError(f"at byte {member.offset:,}: the label {member.name} is no text") from None
    if text[:1] in ("[", "{"):  # else each image would be a class of its own
        value = None
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
        if value is not None:
            raise _several(value, member.name, member)
    return text or None


def _json(member: Member, window: Window, must_be_read: bool) -> Any:
    if member.size > _JSON_BYTES:
        raise DataError(f"at byte {member.offset:,}: {member.name} has {member.size:,} bytes")
    try:
        return json.loads(window.at(member.offset, member.size))
    except (ValueError, RecursionError) as error:
        if not must_be_read:
            return None
        raise DataError(f"at byte {member.offset:,}: {member.name} is no JSON ({error})") from None


def _field_text(facts: Any, wanted: str, member: Member) -> str | None:
    value = facts
    if isinstance(facts, Mapping) and wanted in facts:
        value = facts[wanted]
    else:
        for word in wanted.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
    if isinstance(value, list | Mapping):
        raise _several(value, f"{wanted!r} of {member.name}", member)
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    return str(value).strip() or None


def _several(value: Any, what: str, member: Member) -> UnclearError:
    kind = "a list" if isinstance(value, list) else "several fields"
    return UnclearError(
        f"at byte {member.offset:,}: {what} is {kind}, not a label. Give a table of labels: "
        "litscope index ... --labels FILE"
    )


def _give_labels(found: Scan, labels: dict[str, str | None]) -> None:
    """Give each image the label of its name, or else that of the name up to its first dot, of which it is the only."""
    used: set[str] = set()
    open_still: dict[str, list[Sample]] = {}
    for sample in found.samples:
        if sample.name in labels:
            sample.label = labels[sample.name]
            used.add(sample.name)
        else:
            folder, slash, base = sample.name.rpartition("/")
            open_still.setdefault(f"{folder}{slash}{base.partition('.')[0]}", []).append(sample)
    for name, samples in open_still.items():
        if name in labels and name not in used:
            if len(samples) > 1:
                endings = sorted({f"{one.name[len(name) + 1 :]}{one.suffix}" for one in samples})
                found.unclear = found.unclear or (
                    f"the sample {name!r} has several images ({', '.join(endings)}); say which is meant: "
                    f"litscope index ... --image-suffix {endings[0]}"
                )
                continue
            samples[0].label = labels[name]
            used.add(name)
    found.without_image = [name for name in labels if name not in used]
