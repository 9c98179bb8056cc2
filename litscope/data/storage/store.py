"""Store: files and objects by their address. No torch.

    a path, file://            the file system of this machine
    http://, https://          read only, and without a listing
    s3://bucket/key            through s3fs  (extra `s3`)
    gs://bucket/key            through gcsfs (extra `gcs`)

All but the first go through fsspec, with the credentials that it finds as always: in the environment, in `~/.aws`, of
the machine's role, of `gcloud auth application-default login`. They are never looked at here. An address may be given
as it is shown (`litscope.addresses`): its secrets are put back here, and are in no message.

What fails has one of three causes, by which a caller decides:

    DataError       there is no such object, it may not be read, or a credential is missing or wrong: asking again is
                    no use
    Unanswered      a server that is busy, cannot be reached or broke off: asking again may help (`retries`)
    MissingExtra    a package is not installed
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from litscope.addresses import revealed, scrubbed, shown
from litscope.data.storage.urls import local_path, require_allowed
from litscope.errors import ConfigError, DataError, MissingExtra

T = TypeVar("T")

_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
_VERSION = ("ETag", "etag", "md5Hash", "Content-MD5", "generation", "LastModified", "updated", "Last-Modified")
_CLIENTS = ("fsspec", "s3fs", "gcsfs", "aiohttp", "botocore", "aiobotocore", "google", "requests", "urllib3", "http")
"""Packages whose errors say something about a server or an answer."""
_CONNECT_S, _READ_S = 10, 60  # seconds that a connection, and the next bytes of an answer, may take

_NO_CREDENTIALS = {
    "s3": (
        "no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public "
        "bucket set FSSPEC_S3_ANON=true"
    ),
    "gs": (
        "no credentials were found. Run `gcloud auth application-default login`, or set "
        "GOOGLE_APPLICATION_CREDENTIALS; for a public bucket set FSSPEC_GS_TOKEN=anon"
    ),
}
_REFUSED = {
    "s3": "The credentials in use (AWS_ACCESS_KEY_ID, AWS_PROFILE or the machine's role) may not do this",
    "gs": "The credentials in use (GOOGLE_APPLICATION_CREDENTIALS, gcloud or the machine's account) may not do this",
}


def use_endpoint(url: str | None) -> None:
    """Have this process, and those that it starts, ask another S3 server than Amazon's; None changes nothing."""
    if url is not None:
        os.environ["AWS_ENDPOINT_URL_S3"] = url


class Unanswered(DataError):
    """A server is busy, cannot be reached, or broke off in the middle of an answer; a later answer may be good."""


class Store:
    """Files and objects. It may be shared by threads, pickled, and used after a fork.

    Args:
        endpoint_url: of another server than Amazon's or Google's. Default: AWS_ENDPOINT_URL or STORAGE_EMULATOR_HOST,
            which the clients read themselves.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        self.endpoint_url = endpoint_url
        self._clients: dict[tuple[int, str], Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"endpoint_url": self.endpoint_url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def exists(self, address: str) -> bool:
        """Whether a file or an object is there. Raises as `size`."""
        if (path := _local(address)) is not None:
            return path.is_file()
        try:
            self.size(address)
        except _Missing:
            return False
        return True

    def size(self, address: str) -> int:
        """Bytes of a file or an object.

        Raises:
            DataError: see the module.
        """
        if (path := _local(address)) is not None:
            return _on_disk(path, lambda path: path.stat().st_size)
        size = self._ask(address, lambda client, url: client.info(url))["size"]
        if size is None:
            raise DataError(f"{shown(address)}: the server does not say how large it is.")
        return int(size)

    def version(self, address: str) -> str:
        """What changes with the content of a file or an object: its tag, or when it was written. Raises as `size`."""
        if (path := _local(address)) is not None:
            return _on_disk(path, lambda path: str(path.stat().st_mtime_ns))
        facts = self._ask(address, lambda client, url: client.info(url))
        return " ".join(str(facts[name]) for name in _VERSION if facts.get(name))

    def read(self, address: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer where the file ends before.

        Raises:
            ConfigError: for a server that sends the whole file instead: no sample can be read there.
            DataError: see the module.
        """
        if size <= 0:
            return b""
        if (path := _local(address)) is not None:
            return _on_disk(path, lambda path: _pread(path, offset, size))
        try:
            content = self._ask(address, lambda client, url: client.cat_file(url, start=offset, end=offset + size))
        except _Beyond:
            return b""
        if len(content) > size:
            raise ConfigError(
                f"{shown(address)}: the server answers a request for {size:,} bytes with {len(content):,}. It "
                "must know range requests, as object stores and most web servers do. Or copy the shards to this "
                "machine, and give their folder."
            )
        return bytes(content)

    def read_all(self, address: str) -> bytes:
        """All bytes of a file or an object. Raises as `read`."""
        if (path := _local(address)) is not None:
            return _on_disk(path, Path.read_bytes)
        return bytes(self._ask(address, lambda client, url: client.cat_file(url)))

    def entries(self, folder: str) -> tuple[dict[str, int], tuple[str, ...]]:
        """Name -> bytes of the files of a folder or a bucket itself, and the names of the folders in it, sorted.

        Raises:
            ConfigError: for a web server, which has no list.
            DataError: see the module.
        """
        if (path := _local(folder)) is not None:
            return _on_disk(path, _entries_of)
        if _scheme(folder) in ("http", "https"):
            raise ConfigError(f"{shown(folder)}: a web server gives no list of its files. Name the files.")
        found = self._ask(folder, lambda client, url: client.ls(url, detail=True))
        own = folder.partition("://")[2].rstrip("/")
        named = sorted((str(one["name"]).rstrip("/"), str(one["type"]), int(one["size"] or 0)) for one in found)
        inside = [(name.rpartition("/")[2], kind, size) for name, kind, size in named if name != own]
        files = {name: size for name, kind, size in inside if kind != "directory"}
        return files, tuple(name for name, kind, _ in inside if kind == "directory")

    def list(self, prefix: str) -> dict[str, int]:
        """Address -> bytes, of all files and objects below a folder or a prefix that ends with "/", sorted.

        Raises:
            ConfigError: for a web server, which has no list.
            DataError: see the module.
        """
        if (path := _local(prefix)) is not None:
            return _on_disk(path, _files_below)
        scheme = _scheme(prefix)
        if scheme in ("http", "https"):
            raise ConfigError(f"{shown(prefix)}: a web server gives no list of its files. Name the files.")
        # `find` of a client would be answered from what it listed before, and takes a key for a folder of its name.
        found = self._ask(prefix, lambda client, url: client.find(url, detail=True, withdirs=False))
        below = prefix.rstrip("/") + "/"
        addresses = {f"{scheme}://{name}": int(facts["size"]) for name, facts in found.items()}
        return {name: addresses[name] for name in sorted(addresses) if name.startswith(below)}

    def put(self, file: Path, address: str) -> None:
        """Copy a file of this machine to an address; there it is whole, or not there.

        Raises:
            ConfigError: for a web server.
            DataError: see the module.
        """
        if (path := _local(address)) is not None:
            _on_disk(path, lambda path: _copy(file, path))
            return
        if _scheme(address) in ("http", "https"):
            raise ConfigError(f"{shown(address)}: nothing is written to web servers; s3 and gs are.")
        self._ask(address, lambda client, url: client.put_file(str(file), url))

    def _ask(self, address: str, request: Callable[[Any, str], T]) -> T:
        client = self._client(_scheme(address))
        try:
            return request(client, revealed(address))
        except Exception as error:
            if not _is_of_a_client(error):  # a defect, which asking again does not mend
                raise
            raise _meaning(error, address) from error

    def _client(self, scheme: str) -> Any:
        """The client of a scheme; one for each process, as its connections do not survive a fork."""
        with self._lock:
            key = os.getpid(), scheme
            if key not in self._clients:
                self._clients[key] = _open(scheme, self.endpoint_url)
            return self._clients[key]


class _Missing(DataError):
    """There is no such file."""


class _Beyond(DataError):
    """The file ends before the part that was asked for."""


def _scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _local(address: str) -> Path | None:
    """The path that an address means; None where a server is asked. Raises ConfigError for one that is not allowed."""
    require_allowed(address)
    return local_path(address)


def _on_disk(path: Path, work: Callable[[Path], T]) -> T:
    try:
        return work(path)
    except FileNotFoundError as error:
        raise _Missing(f"{path}: no such file.") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.") from error


def _open(scheme: str, endpoint_url: str | None) -> Any:
    import fsspec

    common: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
        return fsspec.filesystem(scheme, client_kwargs={"timeout": timeout}, **common)
    package, extra = _EXTRAS[scheme]
    # Else gcsfs asks of every bucket whether it is one of folders, which needs a permission more.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    given: dict[str, Any] = {} if endpoint_url is None else {"endpoint_url": endpoint_url}
    if scheme == "s3":
        patience = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"max_attempts": 1}}
        given |= {"config_kwargs": patience}
    try:
        return fsspec.filesystem(scheme, **given, **common)
    except ImportError as error:
        raise MissingExtra(package, extra, f"Reading {scheme}:// addresses") from error


def _is_of_a_client(error: Exception) -> bool:
    """Whether it says something about an address, a server or an answer, and nothing about this program.

    What the system and the libraries of clients define; a value that they do not like; an answer that broke off.
    """
    if isinstance(error, OSError | EOFError | ValueError):
        return True
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


def _meaning(error: Exception, address: str) -> DataError:
    """What an error of a client says to a person, and to who asks again."""
    name, scheme = shown(address), _scheme(address)
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and scheme in ("http", "https") and isinstance(cause, Exception):
        return _meaning(cause, address)  # what it calls all that went wrong
    if isinstance(error, FileNotFoundError):
        return _Missing(f"{name}: there is no such object, or no such bucket.")
    kind = type(error).__name__
    if isinstance(error, ValueError) and (type(error).__module__ == "builtins" or kind == "InvalidURL"):
        return DataError(f"{name}: {_plain(error)}.")  # of the address or the settings, not of an answer that was cut
    if kind in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
        return DataError(f"{name}: {_NO_CREDENTIALS[scheme]}.")
    if kind in ("ProfileNotFound", "InvalidConfigError", "ParamValidationError", "InvalidRegionError"):
        return DataError(f"{name}: {_plain(error)}.")
    # Of aiohttp's errors `code` is deprecated: it is asked for only where there is no `status`.
    status = str(error.status if hasattr(error, "status") else getattr(error, "code", ""))
    if status == "416" or (isinstance(error, OSError) and error.errno == errno.EINVAL):
        return _Beyond(f"{name}: it ends before the part that was asked for.")
    if isinstance(error, PermissionError) or status in ("401", "403"):
        refused = f"{_REFUSED[scheme]}" if scheme in _REFUSED else "The address has expired, or needs a signature"
        return DataError(f"{name}: access is denied ({_plain(error)}). {refused}.")
    if status in ("404", "410"):
        return _Missing(f"{name}: there is no such object.")
    return Unanswered(f"{name}: {_plain(error)}")


def _plain(error: BaseException) -> str:
    """The error's words on one line, without the secrets of an address."""
    return scrubbed(" ".join(str(error).split()) or type(error).__name__).rstrip(".")


def _pread(path: Path, offset: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def _files_below(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.stat().st_size for path in files}


def _entries_of(folder: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    found = sorted(folder.iterdir())
    files = {one.name: one.stat().st_size for one in found if one.is_file()}
    return files, tuple(one.name for one in found if one.is_dir())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
