"""The built page's own files, over HTTP."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

from litscope.jsonlines import is_unicode
from litscope.studio.doors.security import error_body

DIST = Path(__file__).parent.parent / "page" / "dist"
"""The built page."""

NOT_BUILT = (
    "The page is not built in this installation: where npm's registry can be reached, `pip install .` in the source "
    "folder builds it. All that it would show is under /api/."
)
_NO_PAGE = f"<!doctype html><meta charset=utf-8><title>litscope studio</title><p>{NOT_BUILT}"


def is_built() -> bool:
    """Whether there is a page to show."""
    return (DIST / "index.html").is_file()


def page_files(dist: Path) -> Callable[[Request], Response]:
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
        text = _NO_PAGE.encode() if index is None else _placed(index.read_bytes(), path)
        return Response(text, media_type="text/html; charset=utf-8", headers={"cache-control": "no-cache"})

    return page


def _placed(index: bytes, path: str) -> bytes:
    """The page for a place: its addresses are relative, because a proxy may have put us below a path of its own."""
    return index.replace(b'<base href="/">', f'<base href="{"../" * path.count("/") or "./"}">'.encode())


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
