"""A lake's files in an S3-compatible object store; a folder is their working copy."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from movie_mlops.data.files import holding, replacing
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError

FOLDERS = ("raw", "processed", "quarantine", "features", "predictions")
"""What of a lake is kept in the store."""
MARK = ".store"
"""The file of a working copy that names its store."""
_LOCK, _VERSIONS, _PARALLEL = ".syncing", ".versions", 8


class ObjectStore:
    """The store has the truth: a file counts as written when the store has acknowledged it.

    One home writes to a store; others may read it. Within a home any process and thread may use
    it: files move one call at a time. Credentials, region and endpoint are found as by every
    tool of AWS (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL_S3`, …).

    Every method raises:
        ConfigurationError: no bucket of this name, no credentials, or both the store and a
            folder that is no copy of it hold files.
        EngineUnavailableError: the store does not answer, or refuses.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url = url.rstrip("/")
        self._bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._root = root

    def pull(self, *folders: str) -> None:
        """Make these folders of the working copy (all when none is named) as in the store."""
        with self._exclusive():
            for folder in folders or FOLDERS:
                self._pull_folder(folder)

    def pull_file(self, path: Path) -> None:
        """Make one file of the working copy as in the store; gone where it has none."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 (as in _client)

        name = self._name(path)
        with self._exclusive():
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                path.unlink(missing_ok=True)
                return
            self._fetch(name, found["ETag"])

    def place(self, partial: Path, target: Path) -> None:
        """Bring a finished file into the store, then to its target in the working copy."""
        with self._exclusive():
            self._put(partial, target)

    def remove(self, path: Path) -> None:
        """Take a file away, from the store first."""
        with self._exclusive():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + self._name(path))
            path.unlink(missing_ok=True)

    def push(self, folder: str) -> None:
        """Make a folder of the store as in the working copy, for what writes files by itself."""
        with self._exclusive():
            self._push_folder(folder)

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3  # noqa: PLC0415 (30 MB that a lake in a folder does without)
            from botocore.config import Config  # noqa: PLC0415
        except ModuleNotFoundError as error:
            message = f"LAKE_URL {self.url} needs boto3: pip install 'movie-mlops[stack]'"
            raise ConfigurationError(message) from error
        config = Config(
            connect_timeout=5,
            read_timeout=10,
            retries={"total_max_attempts": 2, "mode": "standard"},
            # stores other than AWS's own refuse bodies with a trailing checksum
            request_checksum_calculation="when_required",
        )
        return boto3.Session().client("s3", config=config)  # the default one is no thread's own

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with holding(self._root, _LOCK), self._translated():
            self._adopt()
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        # raises ConfigurationError where boto3 is missing
        missing = self._client.exceptions.NoSuchBucket
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 (as in _client)
        from botocore.exceptions import (  # noqa: PLC0415
            BotoCoreError,
            ClientError,
            NoCredentialsError,
        )

        try:
            yield
        except missing as error:
            message = f"LAKE_URL: there is no bucket {self._bucket!r}; create it first"
            raise ConfigurationError(message) from error
        except NoCredentialsError as error:
            message = f"LAKE_URL {self.url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise ConfigurationError(message) from error
        except (Boto3Error, BotoCoreError, ClientError) as error:
            message = f"the store of the tables, {self.url}: {error}"
            raise EngineUnavailableError(message) from error

    def _adopt(self) -> None:
        """Of a folder that is no copy of this store make one; an empty store gets its files.

        A kill on the way leaves a store that has some of the folder's files; again does the rest.
        """
        mark = self._root / MARK
        if mark.exists() and mark.read_text() == self.url:
            return
        if any(self._local(folder) for folder in FOLDERS):
            stored = [of for folder in FOLDERS for of in self._stored(folder).items()]
            if not all(self._is_current(name, etag) for name, etag in stored):
                message = (
                    f"both {self.url} and {self._root} hold tables; "
                    "take an empty home, or an empty prefix to bring the folder there"
                )
                raise ConfigurationError(message)
            for folder in FOLDERS:
                self._push_folder(folder)
        with replacing(mark) as partial:
            partial.write_text(self.url)

    def _pull_folder(self, folder: str) -> None:
        stored = self._stored(folder)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for _ in pool.map(self._fetch, stored.keys(), stored.values()):
                pass  # an error of a thread is raised here
        for path in self._local(folder):
            if self._name(path) not in stored:
                path.unlink()

    def _push_folder(self, folder: str) -> None:
        stored = self._stored(folder)
        for path in self._local(folder):
            if not self._is_current(name := self._name(path), stored.pop(name, "")):
                self._put(path, path)
        for name in stored:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _fetch(self, name: str, etag: str) -> None:
        if self._is_current(name, etag):
            return
        # one request: parts of one file could be of two versions
        found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        with replacing(self._root / name) as partial, partial.open("wb") as stream:
            shutil.copyfileobj(found["Body"], stream, 1 << 20)
        self._note(name, found["ETag"])

    def _put(self, source: Path, target: Path) -> None:
        name = self._name(target)
        key = self._prefix + name
        self._client.upload_file(str(source), self._bucket, key)
        etag = self._client.head_object(Bucket=self._bucket, Key=key)["ETag"]
        if source != target:
            source.replace(target)
        self._note(name, etag)

    def _stored(self, folder: str) -> dict[str, str]:
        """Name to version of what the store has."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/"
        )
        found = {
            entry["Key"].removeprefix(self._prefix): entry["ETag"]
            for page in pages
            for entry in page.get("Contents", ())
        }
        return {name: etag for name, etag in found.items() if not _is_hidden(Path(name))}

    def _local(self, folder: str) -> list[Path]:
        files = (path for path in (self._root / folder).rglob("*") if path.is_file())
        return sorted(path for path in files if not _is_hidden(path.relative_to(self._root)))

    def _is_current(self, name: str, etag: str) -> bool:
        """Whether the working copy has this version, and nobody touched the file since."""
        try:
            return self._noted(name).read_text() == self._version(name, etag)
        except FileNotFoundError:
            return False

    def _note(self, name: str, etag: str) -> None:
        with replacing(self._noted(name)) as partial:
            partial.write_text(self._version(name, etag))

    def _noted(self, name: str) -> Path:
        return self._root / _VERSIONS / f"{name}.version"

    def _version(self, name: str, etag: str) -> str:
        status = (self._root / name).stat()
        return f"{etag.strip(chr(34))} {status.st_size} {status.st_mtime_ns}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)
