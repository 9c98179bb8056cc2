"""What lies in a bucket or a folder, for a person who wants to know whether it can be read at all. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.console import number_of
from litscope.data.storage.store import Store
from litscope.data.storage.urls import require_allowed

_SHOWN = 10


@dataclass(frozen=True)
class Listed:
    """What was found.

    Attributes:
        url: of the place.
        credentials: which are asked for first, as far as this machine shows.
        files: name -> bytes, of those in the place itself.
        folders: names of those in it.
    """

    url: str
    credentials: str
    files: dict[str, int]
    folders: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {**vars(self), "num_bytes": sum(self.files.values())}

    def lines(self) -> list[str]:
        """For a terminal."""
        size = sum(self.files.values()) / 1e6
        counts = f"{number_of(len(self.files), 'file')} of {size:,.1f} MB, {number_of(len(self.folders), 'folder')}"
        names = [*(f"{name}/" for name in self.folders), *self.files]
        more = [f"  and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
        return [f"{self.url}: {counts}", *([self.credentials] if self.credentials else []),
                *(f"  {name}" for name in names[:_SHOWN]), *more]  # fmt: skip


def list_place(url: str) -> Listed:
    """List a bucket or a folder.

    Raises:
        ConfigError: for an address that cannot be listed.
        DataError: if it is not there or may not be read; the message says which credentials were refused.
    """
    require_allowed(url)
    files, folders = Store().entries(url)
    return Listed(url, _credentials(url), files, folders)


def _credentials(url: str) -> str:
    """Which credentials a client finds first. Their values are not looked at."""
    known = os.environ
    if url.startswith("s3://"):
        if known.get("FSSPEC_S3_ANON"):
            found = "none (FSSPEC_S3_ANON)"
        elif known.get("AWS_ACCESS_KEY_ID"):
            found = "AWS_ACCESS_KEY_ID of the environment"
        elif known.get("AWS_PROFILE"):
            found = f"the profile {known['AWS_PROFILE']} (AWS_PROFILE)"
        elif Path(known.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser().exists():
            found = "the default profile of ~/.aws/credentials"
        else:
            found = "those of the machine's role, or none"
        server = known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL")
        return f"credentials: {found}" + (f"; server: {server}" if server else "")
    if url.startswith("gs://"):
        given = [name for name in ("FSSPEC_GS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS") if known.get(name)]
        server = known.get("STORAGE_EMULATOR_HOST")
        found = f"{given[0]} of the environment" if given else "those of gcloud or of the machine"
        return f"credentials: {found}" + (f"; server: {server}" if server else "")
    return ""
