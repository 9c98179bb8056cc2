"""Errors as HTTP answers: a status, and a sentence for a person."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from litscope.errors import ConfigError, LedgerError, LitscopeError, RunError
from litscope.studio.doors.security import error_body
from litscope.studio.refusals import AskedWrong, NotThere, ReadOnly, ViewExpired


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


async def refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """An error of ours."""
    assert isinstance(error, LitscopeError)
    place = (error.field, error.position) if isinstance(error, AskedWrong) else (None, None)
    body = error_body(type(error).__name__, str(error), *place)
    return Response(body, status_of(error), media_type="application/json")


async def out_of_reach(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """A file that cannot be read."""
    body = error_body("LedgerError", f"A file of the run cannot be read at the moment: {error}.")
    return Response(body, 503, media_type="application/json")


async def not_valid(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """A request that is not as described; its first fault."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("query", "path", "body")]
    message = f"{'.'.join(place) or 'The request'}: {first['msg']}."
    return Response(error_body("NotValid", message, ".".join(place) or None), 400, media_type="application/json")


async def no_route(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """No such route, or no such method."""
    assert isinstance(error, HTTPException)
    body = error_body("NotFound" if error.status_code == 404 else "Refused", f"{error.detail}.")
    return Response(body, error.status_code, media_type="application/json", headers=error.headers)


async def unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """A fault of ours."""
    message = f"Something went wrong that should not: {type(error).__name__}. The terminal of the studio says more."
    return Response(error_body("Unexpected", message), 500, media_type="application/json")
