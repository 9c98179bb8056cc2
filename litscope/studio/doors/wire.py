"""What goes over HTTP: kinds of parameters, bodies, and how answers are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Path as InPath
from fastapi import Query
from fastapi.responses import Response

from litscope.studio.samples import blocks
from litscope.studio.samples.filters import MOST_CHARACTERS
from litscope.studio.samples.maps import MOST_BINS

Split = Literal["train", "val", "test"]
Filter = Annotated[str, Query(max_length=MOST_CHARACTERS, description="a condition; empty: all samples")]
RunId = Annotated[str, InPath(pattern=r"^[A-Za-z0-9._-]{1,80}$", description="a run's id")]
SampleId = Annotated[int, InPath(ge=0, le=2**53)]
Name = Annotated[str, Query(max_length=300)]
Place = Annotated[float, Query(allow_inf_nan=False)]
MaybePlace = Annotated[float | None, Query(allow_inf_nan=False)]
Start = Annotated[int, Query(ge=0, le=2**31)]
Bins = Annotated[int, Query(ge=1, le=MOST_BINS)]


@dataclass(frozen=True)
class Count:
    """How many samples there are."""

    total: int


@dataclass(frozen=True)
class Position:
    """Where a sample stands; null: nowhere."""

    position: int | None


@dataclass(frozen=True)
class Found:
    """A sample that was looked for."""

    sample_id: int


@dataclass(frozen=True)
class Typical:
    """Typical samples of a class."""

    label: str
    sample_ids: list[int]


@dataclass(frozen=True)
class Curved:
    """sample_id -> p_label by epoch."""

    sparklines: dict[int, list[float | None]]


@dataclass(frozen=True)
class SqlQuestion:
    """One SELECT."""

    query: str


@dataclass(frozen=True)
class ErrorFacts:
    """What went wrong: its kind, sentences for a person, and which parameter, and where in it."""

    type: str
    message: str
    field: str | None
    position: int | None


@dataclass(frozen=True)
class Error:
    """Every answer that is no success."""

    error: ErrorFacts


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": text}
    for status, text in (
        (400, "What was asked for is not valid."),
        (401, "The token is missing."),
        (403, "Another host or origin asks, or the studio is read-only."),
        (404, "No such run, sample or picture."),
        (405, "There is no such method."),
        (409, "It cannot be done now."),
        (410, "The view is not kept any more."),
        (413, "The request is too large."),
        (415, "The body is no JSON."),
        (503, "A file of the run cannot be read at the moment."),
    )
}


class BlockResponse(Response):
    """Columns of numbers."""

    media_type = blocks.MEDIA_TYPE


BLOCKS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "columns of numbers",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in (blocks.MEDIA_TYPE, blocks.ARROW)
        },
    }
}
PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a picture",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")},
    },
    304: {"description": "it has not changed"},
}


def block_answer(found: blocks.Block, accept: str) -> Response:
    """Columns of numbers, as Arrow where the client accepts it."""
    if blocks.ARROW in accept:
        return Response(found.to_arrow(), media_type=blocks.ARROW)
    return BlockResponse(found.to_bytes())
