"""Where state is kept when it is not in a changelog topic: a folder that all workers see, or an object store.

Objects are written once, under a name that nobody else uses, and appear as a whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.faults import fault_point

if TYPE_CHECKING:
    from pyarrow import fs

_T = TypeVar("_T")


class CheckpointStore(Protocol):
    """Objects by name; names have `/` between folders. Used by several threads.

    Raises (each method):
        ConnectorError: the store refuses, or can't be reached.
    """

    def put(self, name: str, payload: bytes) -> None:
        """Writes an object; returns when it is durable."""

    def get(self, name: str) -> bytes | None:
        """Reads one; None where there is none of that name."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, without the folder's, sorted; none where there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, sorted."""

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; those that are gone already are no error."""


def open_store(url: str) -> CheckpointStore:
    """Opens `file:///folder` (a file system that all workers share) or `s3://bucket/prefix`.

    What else pyarrow's file systems know (`gs://`, `abfs://`, `hdfs://`) works as well; a URL may hold their options
    (`s3://bucket/prefix?endpoint_override=host:9000&scheme=http&region=…`). Keys come from the environment as usual.

    Raises:
        ConfigurationError: not such a URL, or options that can't work.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise ConfigurationError(f"checkpoint_storage {url!r}: write file:///folder")
        return FolderStore(Path(unquote(parts.path)))
    if not parts.scheme or not parts.netloc:
        raise ConfigurationError(
            f"checkpoint_storage {url!r}: write file:///folder on a file system that all workers share, or "
            "s3://bucket/prefix"
        )
    from pyarrow import fs

    try:
        filesystem, root = fs.FileSystem.from_uri(url)
    except Exception as error:  # pyarrow raises whatever its file system does
        raise ConfigurationError(f"checkpoint_storage {url!r}: {error}") from error
    return ObjectStore(filesystem, root)


class FolderStore:
    """A folder. Objects are written beside their place, synced, and renamed into it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, payload: bytes) -> None:
        target = self.root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".partial")
            with os.fdopen(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            fault_point("storage.written")
            Path(partial).replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise ConnectorError(f"checkpoint storage: can't write {target}: {error}") from error

    def get(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConnectorError(f"checkpoint storage: can't read {self.root / name}: {error}") from error

    def names(self, folder: str) -> list[str]:
        return self._entries(folder, lambda entry: entry.is_file() and not entry.name.startswith("."))

    def folders(self, folder: str) -> list[str]:
        return self._entries(folder, lambda entry: entry.is_dir())

    def _entries(self, folder: str, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(entry.name for entry in entries if wanted(entry))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConnectorError(f"checkpoint storage: can't list {self.root / folder}: {error}") from error

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                (self.root / name).unlink(missing_ok=True)
            except OSError as error:
                raise ConnectorError(f"checkpoint storage: can't delete {self.root / name}: {error}") from error


def _sync_folder(folder: Path) -> None:
    """A rename is durable when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ObjectStore:
    """An object store, by pyarrow: one upload makes an object, as a whole."""

    def __init__(self, filesystem: fs.FileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def put(self, name: str, payload: bytes) -> None:
        def write() -> None:
            with self._filesystem.open_output_stream(self._path(name)) as stream:
                stream.write(payload)

        self._try(write, f"write {name}")

    def get(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                with self._filesystem.open_input_file(self._path(name)) as file:
                    content: bytes = file.readall()
            except FileNotFoundError:
                return None
            return content

        return self._try(read, f"read {name}")

    def names(self, folder: str) -> list[str]:
        return sorted(info.base_name for info in self._infos(folder) if info.is_file)

    def folders(self, folder: str) -> list[str]:
        return sorted(info.base_name for info in self._infos(folder) if not info.is_file)

    def _infos(self, folder: str) -> list[Any]:
        from pyarrow import fs

        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        found: list[Any] = self._try(lambda: self._filesystem.get_file_info(selector), f"list {folder}")
        return found

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._try(lambda name=name: self._delete(name), f"delete {name}")  # type: ignore[misc]

    def _delete(self, name: str) -> None:
        try:
            self._filesystem.delete_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _try(self, call: Callable[[], _T], what: str) -> _T:
        try:
            return call()
        except OSError as error:
            raise ConnectorError(f"checkpoint storage {self._root!r}: can't {what}: {error}") from error
