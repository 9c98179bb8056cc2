"""The event stream: one for each tab, with what changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import StreamingResponse

import litscope
from litscope.studio.doors.news import News
from litscope.studio.service import Studio

LOOK_S, PING_S = 1.0, 15.0
"""Between two looks at the runs for an event stream; between two signs of life."""


def events(studio: Studio, app: FastAPI) -> APIRouter:
    """The route of the stream: all runs, or one of them closely."""
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
