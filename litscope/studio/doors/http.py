"""The service over HTTP: one route for each of its methods, an event stream, and the page's own files. No logic.

The routes are described at /api/openapi.json. `security.Guard` stands before all of them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

import litscope
from litscope.errors import LitscopeError
from litscope.studio.acting import Asked, Requested
from litscope.studio.doors.failures import no_route, not_valid, out_of_reach, refused, unexpected
from litscope.studio.doors.files import DIST, page_files
from litscope.studio.doors.stream import events
from litscope.studio.doors.wire import (
    BLOCKS,
    PICTURES,
    REFUSALS,
    Bins,
    BlockResponse,
    Count,
    Curved,
    Filter,
    Found,
    MaybePlace,
    Name,
    Place,
    Position,
    RunId,
    SampleId,
    Split,
    SqlQuestion,
    Start,
    Typical,
    block_answer,
)
from litscope.studio.refusals import AskedWrong
from litscope.studio.runs.comparison import Comparison
from litscope.studio.runs.curves import Curves
from litscope.studio.runs.journal import JournalPage
from litscope.studio.runs.pages import RunPage
from litscope.studio.samples.grid import MOST_ROWS, Facets, Histogram, Window
from litscope.studio.samples.maps import MOST_NEAR, MOST_POINTS, Looked, Near
from litscope.studio.samples.pictures import as_side
from litscope.studio.samples.review import MOST_AT_ONCE, MOST_SKIPPED, Review
from litscope.studio.samples.sample import SamplePage
from litscope.studio.samples.sql_answers import SqlAnswer
from litscope.studio.samples.tables import Calibration, ClassTable, ConfusionTable
from litscope.studio.service import RunList, Session, Studio


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
        responses=REFUSALS,
    )
    app.state.closing = asyncio.Event()
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(LitscopeError, refused)
    app.add_exception_handler(OSError, out_of_reach)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(Exception, unexpected)
    app.include_router(_about_runs(studio))
    app.include_router(_about_samples(studio))
    app.include_router(_about_tables(studio))
    app.include_router(events(studio, app))
    app.router.routes.append(Route("/{path:path}", page_files(dist), methods=["GET", "HEAD"]))
    return app


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

    @routes.get("/samples/ids", response_class=BlockResponse, responses=BLOCKS)
    def sample_ids(
        run: RunId,
        view: Name,
        start: Start = 0,
        count: Annotated[int, Query(ge=0, le=10_000_000)] = 100_000,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        return block_answer(studio.sample_ids(run, view, start, count), accept)

    @routes.get("/samples/count")
    def count_samples(run: RunId, filter: Filter = "") -> Count:
        return Count(studio.count(run, filter))

    @routes.get("/samples/sparklines")
    def sparklines(run: RunId, ids: Annotated[str, Query(max_length=20_000)]) -> Curved:
        return Curved(studio.sparklines(run, _numbers(ids, "ids", MOST_ROWS)))

    @routes.get("/find")
    def find(run: RunId, name: Name) -> Found:
        return Found(studio.find(run, name))

    @routes.get("/samples/{sample_id}")
    def sample(run: RunId, sample_id: SampleId) -> SamplePage:
        return studio.sample(run, sample_id)

    @routes.get("/samples/{sample_id}/image", response_class=Response, responses=PICTURES)
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

    @routes.get("/map", response_class=BlockResponse, responses=BLOCKS)
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
        return block_answer(studio.map(run, look), accept)

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
