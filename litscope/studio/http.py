"""The service over HTTP: one route for each of its methods, an event stream, and the page's own files. No logic.

The routes are described at /api/openapi.json. `security.Guard` stands before all of them.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

import litscope
from litscope.errors import ConfigError, LedgerError, LitscopeError, RunError
from litscope.jsonlines import is_unicode
from litscope.studio import blocks
from litscope.studio.acting import Asked, Requested
from litscope.studio.comparison import Comparison
from litscope.studio.curves import Curves
from litscope.studio.filters import MOST_CHARACTERS
from litscope.studio.grid import MOST_ROWS, Facets, Histogram, Window
from litscope.studio.journal import JournalPage
from litscope.studio.maps import MOST_BINS, MOST_NEAR, MOST_POINTS, Looked, Near
from litscope.studio.news import News
from litscope.studio.pages import RunPage
from litscope.studio.pictures import as_side
from litscope.studio.refusals import AskedWrong, NotThere, ReadOnly, ViewExpired
from litscope.studio.review import MOST_AT_ONCE, MOST_SKIPPED, Review
from litscope.studio.sample import SamplePage
from litscope.studio.security import error_body
from litscope.studio.service import RunList, Session, SqlAnswer, Studio
from litscope.studio.tables import Calibration, ClassTable, ConfusionTable

DIST = Path(__file__).parent / "page" / "dist"
"""The built page."""

NOT_BUILT = (
    "<!doctype html><meta charset=utf-8><title>litscope studio</title><p>The page is not built in this installation: "
    "<code>pip install .</code> in the source folder builds it. All that it would show is under <code>/api/</code>."
)

LOOK_S, PING_S = 1.0, 15.0
"""Between two looks at the runs for an event stream; between two signs of life."""

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


_REFUSALS: dict[int | str, dict[str, Any]] = {
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


_BLOCK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "columns of numbers",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in (blocks.MEDIA_TYPE, blocks.ARROW)
        },
    }
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a picture",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")},
    },
    304: {"description": "it has not changed"},
}


def make_app(studio: Studio, dist: Path = DIST) -> FastAPI:
    """The application, which is to stand behind a `security.Guard`.

    Args:
        studio: the service.
        dist: the built page.
    """
    app = FastAPI(
        title="litscope studio",
        version=litscope.__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's own page fetches its script from elsewhere
        redoc_url=None,
        responses=_REFUSALS,
    )
    app.state.closing = asyncio.Event()
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(LitscopeError, _refused)
    app.add_exception_handler(OSError, _out_of_reach)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(_about_runs(studio))
    app.include_router(_about_samples(studio))
    app.include_router(_about_tables(studio))
    app.include_router(_events(studio, app))
    app.router.routes.append(Route("/{path:path}", _page(dist), methods=["GET", "HEAD"]))
    return app


# ---- errors ----------------------------------------------------------------------------------------


def status_of(error: LitscopeError) -> int:
    """The HTTP status of an error of ours."""
    match error:
        case NotThere():
            return 404
        case ViewExpired():
            return 410
        case ReadOnly():
            return 403
        case ConfigError():
            return 400
        case RunError():
            return 409
        case LedgerError():
            return 503
    return 400


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, LitscopeError)
    place = (error.field, error.position) if isinstance(error, AskedWrong) else (None, None)
    body = error_body(type(error).__name__, str(error), *place)
    return Response(body, status_of(error), media_type="application/json")


async def _out_of_reach(request: Request, error: Exception) -> Response:  # noqa: ARG001
    body = error_body("LedgerError", f"A file of the run cannot be read at the moment: {error}.")
    return Response(body, 503, media_type="application/json")


async def _not_valid(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("query", "path", "body")]
    message = f"{'.'.join(place) or 'The request'}: {first['msg']}."
    return Response(error_body("NotValid", message, ".".join(place) or None), 400, media_type="application/json")


async def _no_route(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    body = error_body("NotFound" if error.status_code == 404 else "Refused", f"{error.detail}.")
    return Response(body, error.status_code, media_type="application/json", headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001
    message = f"Something went wrong that should not: {type(error).__name__}. The terminal of the studio says more."
    return Response(error_body("Unexpected", message), 500, media_type="application/json")


# ---- routes ----------------------------------------------------------------------------------------


def _about_runs(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/session")
    def session() -> Session:
        return studio.session()

    @routes.get("/runs")
    def runs() -> RunList:
        return studio.runs()

    @routes.get("/runs/{run}")
    def run_page(run: RunId) -> RunPage:
        return studio.page(run)

    @routes.get("/runs/{run}/curves")
    def curves(
        run: RunId,
        names: Annotated[str, Query(max_length=20_000)] = "",
        x: Literal["step", "epoch", "time"] = "step",
        max_points: Annotated[int, Query(ge=2, le=100_000)] = 2000,
    ) -> Curves:
        return studio.curves(run, _listed(names), x, max_points)

    @routes.get("/runs/{run}/journal")
    def journal(
        run: RunId, limit: Annotated[int, Query(ge=1, le=1000)] = 200, before: Name | None = None
    ) -> JournalPage:
        return studio.journal(run, limit, before)

    @routes.get("/compare")
    def compare(runs: Annotated[str, Query(max_length=2000)]) -> Comparison:
        return studio.compare(_listed(runs))

    @routes.post("/runs/{run}/actions", status_code=202)
    def act(run: RunId, asked: Asked, response: Response) -> Requested:
        done = studio.act(run, asked)
        if done.action is None:
            response.status_code = 200
        return done

    @routes.post("/runs/{run}/sql")
    def sql(run: RunId, question: SqlQuestion) -> SqlAnswer:
        return studio.sql(run, question.query)

    return routes


def _about_samples(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api/runs/{run}")

    @routes.get("/samples")
    def samples(
        run: RunId,
        filter: Filter = "",
        sort: Name = "",
        start: Start = 0,
        count: Annotated[int, Query(ge=0, le=MOST_ROWS)] = 100,
        columns: Annotated[str, Query(max_length=5000)] = "",
        sparklines: bool = False,
        view: Name | None = None,
    ) -> Window:
        return studio.samples(run, filter, sort, start, count, _listed(columns), sparklines, view)

    @routes.get("/samples/ids", response_class=BlockResponse, responses=_BLOCK)
    def sample_ids(
        run: RunId,
        view: Name,
        start: Start = 0,
        count: Annotated[int, Query(ge=0, le=10_000_000)] = 100_000,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        return _block(studio.sample_ids(run, view, start, count), accept)

    @routes.get("/samples/count")
    def count_samples(run: RunId, filter: Filter = "") -> Count:
        return Count(studio.count(run, filter))

    @routes.get("/samples/sparklines")
    def sparklines(run: RunId, ids: Annotated[str, Query(max_length=20_000)]) -> Curved:
        return Curved(studio.sparklines(run, _numbers(ids, "ids", MOST_ROWS)))

    @routes.get("/samples/{sample_id}")
    def sample(run: RunId, sample_id: SampleId) -> SamplePage:
        return studio.sample(run, sample_id)

    @routes.get("/samples/{sample_id}/image", response_class=Response, responses=_PICTURE)
    def image(
        run: RunId,
        sample_id: SampleId,
        size: Annotated[int | None, Query(ge=1, le=100_000)] = None,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        found = studio.image(run, sample_id, as_side(size))
        headers = {"etag": f'"{found.tag}"', "cache-control": "private, max-age=86400"}
        if headers["etag"] in if_none_match:
            return Response(None, 304, headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    @routes.get("/position")
    def position(run: RunId, view: Name, sample_id: Annotated[int, Query(ge=0, le=2**53)]) -> Position:
        return Position(studio.position(run, view, sample_id))

    @routes.get("/facets")
    def facets(run: RunId, by: Name, filter: Filter = "") -> Facets:
        return studio.facets(run, by, filter)

    @routes.get("/histogram")
    def histogram(
        run: RunId, column: Name, filter: Filter = "", bins: Annotated[int, Query(ge=1, le=1000)] = 40
    ) -> Histogram:
        return studio.histogram(run, column, filter, bins)

    return routes


def _about_tables(studio: Studio) -> APIRouter:
    routes = APIRouter(prefix="/api/runs/{run}")

    @routes.get("/review")
    def review(
        run: RunId,
        split: Split = "train",
        count: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 20,
        skip: Annotated[str, Query(max_length=50_000)] = "",
    ) -> Review:
        return studio.review(run, split, count, _numbers(skip, "skip", MOST_SKIPPED))

    @routes.get("/typical")
    def typical(
        run: RunId, label: Name, split: Split = "train", count: Annotated[int, Query(ge=1, le=100)] = 6
    ) -> Typical:
        return Typical(label, studio.typical(run, label, split, count))

    @routes.get("/map", response_class=BlockResponse, responses=_BLOCK)
    def map_of(
        run: RunId,
        x: Name = "variability",
        y: Name = "confidence",
        filter: Filter = "",
        x0: MaybePlace = None,
        x1: MaybePlace = None,
        y0: MaybePlace = None,
        y1: MaybePlace = None,
        width: Bins = 128,
        height: Bins = 128,
        color: Name = "is_right",
        max_points: Annotated[int, Query(ge=0, le=MOST_POINTS)] = 10_000,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        look = Looked(x, y, filter, x0, x1, y0, y1, width, height, color, max_points)
        return _block(studio.map(run, look), accept)

    @routes.get("/map/near")
    def near(
        run: RunId,
        at_x: Place,
        at_y: Place,
        radius_x: Place,
        radius_y: Place,
        x: Name = "variability",
        y: Name = "confidence",
        filter: Filter = "",
        count: Annotated[int, Query(ge=1, le=MOST_NEAR)] = 6,
    ) -> Near:
        return studio.near(run, Looked(x, y, filter), (at_x, at_y), (radius_x, radius_y), count)

    @routes.get("/confusion")
    def confusion(run: RunId, split: Split = "val") -> ConfusionTable:
        return studio.confusion(run, split)

    @routes.get("/classes")
    def classes(run: RunId, split: Split = "val") -> ClassTable:
        return studio.classes(run, split)

    @routes.get("/calibration")
    def calibration(run: RunId, split: Split = "val", bins: Annotated[int, Query(ge=1, le=200)] = 15) -> Calibration:
        return studio.calibration(run, split, bins)

    return routes


def _listed(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _numbers(text: str, field: str, most: int) -> list[int]:
    words = _listed(text)
    if len(words) > most or not all(word.isascii() and word.isdigit() and len(word) < 17 for word in words):
        raise AskedWrong(f"{field} are at most {most:,} sample_ids, with commas between them.", field)
    return [int(word) for word in words]


def _block(found: blocks.Block, accept: str) -> Response:
    if blocks.ARROW in accept:
        return Response(found.to_arrow(), media_type=blocks.ARROW)
    return BlockResponse(found.to_bytes())


# ---- events ----------------------------------------------------------------------------------------


def _events(studio: Studio, app: FastAPI) -> APIRouter:
    routes = APIRouter(prefix="/api")
    stream = {200: {"description": "an event stream", "content": {"text/event-stream": {}}}}

    @routes.get("/events", response_class=StreamingResponse, responses=stream)  # type: ignore[arg-type]
    async def events(run: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9._-]{1,80}$")] = None) -> StreamingResponse:
        if run is not None:
            await asyncio.to_thread(studio.places.run, run)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_told(studio, run, app.state.closing), media_type="text/event-stream", headers=headers)

    return routes


async def _told(studio: Studio, run: str | None, closing: asyncio.Event) -> AsyncIterator[str]:
    yield f"retry: 2000\n{_event('hello', {'version': litscope.__version__})}"
    news = await asyncio.to_thread(News, studio, run)
    silent_s = 0.0
    while not closing.is_set():
        try:
            await asyncio.wait_for(closing.wait(), LOOK_S)
        except TimeoutError:
            found = await asyncio.to_thread(news.look)
            silent_s = 0.0 if found else silent_s + LOOK_S
            for event in found:
                yield _event(event.name, event.data)
            if silent_s >= PING_S:
                silent_s = 0.0
                yield ": ping\n\n"
    yield _event("bye", {})


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


# ---- the page --------------------------------------------------------------------------------------


def _page(dist: Path) -> Callable[[Request], Response]:
    """Serves the built page: its files, and index.html for every other place, which the page itself understands."""
    root = dist.resolve()

    def page(request: Request) -> Response:
        path = request.path_params["path"]
        if path == "api" or path.startswith("api/"):
            return Response(error_body("NotFound", "There is no such route."), 404, media_type="application/json")
        found = _file_in(root, path)
        if found is not None and path != "index.html":
            kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
            headers = {"cache-control": "max-age=31536000, immutable"}
            return Response(found.read_bytes(), media_type=_KINDS.get(found.suffix, kind), headers=headers)
        if "." in path.rpartition("/")[2] and path != "index.html":
            return Response("There is no such file.", 404, media_type="text/plain")
        index = _file_in(root, "index.html")
        text = NOT_BUILT.encode() if index is None else index.read_bytes()
        return Response(text, media_type="text/html; charset=utf-8", headers={"cache-control": "no-cache"})

    return page


_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
"""What a machine's own table of types may have otherwise."""


def _file_in(root: Path, path: str) -> Path | None:
    if "\0" in path or not is_unicode(path):
        return None
    try:
        found = (root / path).resolve()
        return found if found.is_relative_to(root) and found.is_file() else None
    except OSError:  # a name that no file can have
        return None
