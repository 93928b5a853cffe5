"""From the manifest to loaded models, again whenever the manifest changes."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError, MovieMlopsError
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.algorithms.base import Card, RatingRegressor, Recommender
from movie_mlops.models.bundle import load_bundle
from movie_mlops.models.manifest import Entry, Served, manifest_path, read_manifest
from movie_mlops.monitoring.metrics import BUNDLES_REFUSED

Load = Callable[[Mapping[str, NDArray[Any]], Card], Recommender | RatingRegressor]

_LOG = logging.getLogger(__name__)
_PROTOCOLS: dict[str, type] = {MOVIE_RECOMMENDER: Recommender, MOVIE_PREDICTOR: RatingRegressor}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One served version in memory."""

    entry: Entry
    card: Card
    model: Any


class ModelLoader:
    """Holds the served models; a bundle that cannot be loaded leaves the last good one in place.

    `load` makes a model of arrays and card. `get` never waits: loading is done by the thread of
    `start` (or by `reload`) and swapped in at once.
    """

    def __init__(self, serving: Path, load: Load, poll_seconds: float = 0.2) -> None:
        self._serving, self._load, self._poll_seconds = serving, load, poll_seconds
        self._models: dict[tuple[str, Alias], LoadedModel] = {}
        self._served: dict[str, Served] = {}
        self._problems: dict[str, str] = {}
        self._seen: tuple[int, int, int] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model-loader", daemon=True)

    @property
    def problems(self) -> dict[str, str]:
        """Model and alias, or `manifest`, to why it is not what the manifest says."""
        return dict(self._problems)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of the manifest."""
        self._listeners.append(listener)

    def get(self, name: str, alias: Alias = Alias.CHAMPION) -> LoadedModel | None:
        """The loaded version that the alias names; None where there is none."""
        return self._models.get((name, alias))

    def served(self, name: str) -> Served:
        """What the manifest said last about this entry."""
        return self._served.get(name, Served())

    def start(self) -> None:
        """Load now, then watch the manifest until `stop`."""
        self.reload()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; what is loaded stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def reload(self) -> None:
        """Look at the manifest now, and load what it names when it has changed."""
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._served = read_manifest(self._serving)
            self._problems.pop("manifest", None)
        except ArtifactCorruptError as error:
            self._refuse("manifest", error)
            return
        for name in _PROTOCOLS:
            served = self.served(name)
            self._take(name, Alias.CHAMPION, served.champion)
            self._take(name, Alias.CHALLENGER, served.challenger)
        for listener in self._listeners:
            listener()

    def _take(self, name: str, alias: Alias, entry: Entry | None) -> None:
        label = f"{name} {alias}"
        self._problems.pop(label, None)
        if entry is None:
            self._models.pop((name, alias), None)
            return
        loaded = self._models.get((name, alias))
        if loaded is not None and loaded.entry == entry:
            return
        try:
            self._models[name, alias] = self._open(name, entry)
            _LOG.info("%s is version %s", label, entry.version)
        except MovieMlopsError as error:
            BUNDLES_REFUSED.labels(name).inc()
            self._refuse(label, error)

    def _open(self, name: str, entry: Entry) -> LoadedModel:
        for (held_name, _), held in self._models.items():
            if held_name == name and held.entry == entry:
                return held  # a challenger that became champion
        arrays, card = load_bundle(bundle_folder(self._serving, entry), entry.card_sha256)
        try:
            model = self._load(arrays, card)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            # what another release of an algorithm wrote must not stop this one from serving
            message = f"bundle {entry.path} cannot be read: {error!r}"
            raise ArtifactCorruptError(message) from error
        if not isinstance(model, _PROTOCOLS[name]):
            message = f"bundle {entry.path} is no model for {name}"
            raise ArtifactCorruptError(message)
        return LoadedModel(entry, card, model)

    def _refuse(self, label: str, error: Exception) -> None:
        self._problems[label] = f"{error}; the last good version stays in place"
        _LOG.error("%s: %s", label, error)

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = manifest_path(self._serving).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.reload()
            except Exception:  # noqa: BLE001 (the watch outlives whatever a bundle does)
                _LOG.exception("the manifest could not be followed")


def bundle_folder(serving: Path, entry: Entry) -> Path:
    """The folder of an entry.

    Raises:
        ArtifactCorruptError: the path leads out of the serving folder.
    """
    folder = (serving / entry.path).resolve()
    if not folder.is_relative_to(serving.resolve()):
        message = f"{entry.path} lies outside the serving folder"
        raise ArtifactCorruptError(message)
    return folder
