"""Any model version built again from its snapshot, and compared byte by byte."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.features.engineering.interaction_features import EVENT_TOPIC, all_interactions
from movie_mlops.models.algorithms import REGRESSORS, create
from movie_mlops.models.algorithms.base import Card, RatingRegressor, Recommender
from movie_mlops.models.bundle import CARD, load_bundle, save_bundle
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.provenance import code_version
from movie_mlops.models.training.rating import rated_films, rating_rows

NOT_COMPARED = ("metrics", "gate", "code", "snapshot", "snapshot_tree", "seed")
"""Entries of a card that were measured, or say where it came from."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How the version built again stands beside the registered one.

    `differences` names arrays and entries of the card; empty: the same bytes. `erased_at` is when
    the snapshot was rewritten by an erasure after this version was trained; empty: it was not.
    """

    model: str
    version: str
    algorithm: str
    snapshot: str
    arrays: int
    differences: tuple[str, ...]
    erased_at: str
    code_then: str
    code_now: str


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """What it needs; `seed` is of versions whose card does not name theirs."""

    snapshots: DataVersionManager
    registry: ModelRegistry
    seed: int

    def rebuild(self, model: str, version: str) -> Rebuilt:
        """Fit the version again on its snapshot, with its parameters and seed, in a scratch folder.

        The same bytes come with the same library versions, on the same kind of processor, with
        one BLAS thread.

        Raises:
            ModelVersionNotFoundError: no such model or version.
            SnapshotNotFoundError: its snapshot is gone.
            ArtifactCorruptError: the registered bundle is damaged.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _, card = load_bundle(self.registry.fetch_bundle(model, version, folder))
            snapshot = self.snapshots.get(card["snapshot"])
            with self.snapshots.opened(snapshot.tag) as lake:
                fitted = _fitted(lake, card, int(card.get("seed", self.seed)))
                positions = lake.event_positions(EVENT_TOPIC)
            arrays, found = fitted.artifact()
            if "log_positions" in card:
                found["log_positions"] = positions
            save_bundle(folder / "again", arrays, found)
            made = json.loads((folder / "again" / CARD).read_text())
        return Rebuilt(
            model=model,
            version=version,
            algorithm=card["algorithm"],
            snapshot=snapshot.tag,
            arrays=len(card["files"]),
            differences=tuple(_differences(card, made)),
            erased_at=snapshot.erased_at if snapshot.tree != _tree_of(card, snapshot.tree) else "",
            code_then=str(card.get("code", "")),
            code_now=code_version(),
        )


def _fitted(lake: Lake, card: Card, seed: int) -> Recommender | RatingRegressor:
    """As the training pipelines fit what they register."""
    model = create(card["algorithm"], **card["parameters"])
    if card["algorithm"] in REGRESSORS:
        rows, ratings = rating_rows(rated_films(lake.read("movies")))
        regressor: RatingRegressor = model.fit(rows, ratings, seed)
        return regressor
    movie_ids = lake.read("movies")["movie_id"].sort().to_numpy()
    recommender: Recommender = model.fit(build_histories(all_interactions(lake), movie_ids), seed)
    return recommender


def _differences(card: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    files = card["files"].keys() | made["files"].keys()
    found = [f"array {n}" for n in files if card["files"].get(n) != made["files"].get(n)]
    entries = (card.keys() | made.keys()) - {*NOT_COMPARED, "files"}
    found += [f"card entry {name}" for name in entries if card.get(name) != made.get(name)]
    return sorted(found)


def _tree_of(card: Card, present: str) -> str:
    """The state that the version was trained on; cards before this was noted do not say."""
    return str(card.get("snapshot_tree", present))
