"""Batch prediction: lists for all users by the code that serves, resumable, kept as a table."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from movie_mlops.data.files import replacing
from movie_mlops.data.lake import Lake
from movie_mlops.domain.errors import ModelVersionNotFoundError
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models import algorithms
from movie_mlops.models.manifest import Entry, read_manifest, remove_oldest
from movie_mlops.models.serving.batch_lists import LENGTH, write_batch_lists
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.orchestration.base import Json, Pipeline, Report

TABLE = "batch_recommendations"
USERS_PER_PART = 2_000
KEPT_WORK = 2
_SCHEMA = {
    "user_id": pl.String(),
    "rank": pl.Int32(),
    "movie_id": pl.Int64(),
    "score": pl.Float64(),
    "path": pl.String(),
}


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """The steps and what they need; `told` gets the champion, its snapshot and the users."""

    lake: Lake
    serving: Path
    work: Path
    history_length: int
    told: Callable[[Entry, int], None]

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (self.freeze_histories, self.predict_lists, self.publish_lists)
        return Pipeline("batch_prediction", {step.__name__: step for step in steps})

    def freeze_histories(self, inputs: Json, report: Report) -> Json:
        """Choose the champion of now, and keep the interactions of now for all parts."""
        del inputs
        report("freezing the histories", 0, None)
        champion = _champion(self.serving)
        positions = json.dumps(self.lake.event_positions("user-events"), sort_keys=True)
        state = f"{champion.version}-{champion.snapshot}-{_digest(positions)}"
        folder = self.work / state
        if not (folder / "interactions.parquet").exists():
            folder.mkdir(parents=True, exist_ok=True)
            others = [path for path in self.work.iterdir() if path != folder]
            remove_oldest(others, KEPT_WORK)
            with replacing(folder / "interactions.parquet") as partial:
                all_interactions(self.lake).write_parquet(partial)
        return {"state": state, "version": champion.version, "card": champion.card_sha256}

    def predict_lists(self, inputs: Json, report: Report) -> Json:
        """Make the lists, part by part; parts that are there already are kept."""
        folder = self.work / inputs["state"]
        interactions = pl.read_parquet(folder / "interactions.parquet")
        users = interactions.get_column("user_id").unique().sort().to_list()
        missing = [part for part in _parts(len(users)) if not _part(folder, part).exists()]
        if missing:
            recommender = self._recommender(interactions, inputs)
        for done, part in enumerate(missing):
            report("making lists", done * USERS_PER_PART, len(missing) * USERS_PER_PART)
            rows = [
                (user, rank, item.movie_id, item.score, made.path)
                for user in users[part : part + USERS_PER_PART]
                for made in (recommender.recommend(UserId(user), LENGTH),)
                for rank, item in enumerate(made.items, 1)
            ]
            with replacing(_part(folder, part)) as partial:
                pl.DataFrame(rows, schema=_SCHEMA, orient="row").write_parquet(partial)
        kept = len(_parts(len(users))) - len(missing)
        note = f"{len(users):,} users" + (f", {kept} parts of an earlier run" if kept else "")
        return {"users": len(users), "note": note}

    def publish_lists(self, inputs: Json, report: Report) -> Json:
        """Put the table in its place, and the lists where serving falls back to."""
        report("publishing", 0, None)
        folder, champion = self.work / inputs["state"], _champion(self.serving)
        if champion.card_sha256 != inputs["card"]:
            message = f"champion v{inputs['version']} was replaced meanwhile; run it again"
            raise ModelVersionNotFoundError(message)
        parts = [_part(folder, part) for part in _parts(inputs["users"])]
        table = pl.concat(
            [pl.read_parquet(path) for path in parts] or [pl.DataFrame(schema=_SCHEMA)]
        )
        self.lake.predictions.mkdir(parents=True, exist_ok=True)
        target = self.lake.predictions / f"{TABLE}.parquet"
        stamped = table.with_columns(
            model_version=pl.lit(champion.version), snapshot=pl.lit(champion.snapshot)
        )
        with self.lake.replacing(target) as partial:
            stamped.write_parquet(partial)
        users = table.get_column("user_id").unique(maintain_order=True)
        row = pl.Series(range(len(users)), dtype=pl.Int64())
        of_user = pl.DataFrame({"user_id": users, "row": row})
        at = table.join(of_user, "user_id", maintain_order="left")
        films = np.zeros((len(users), LENGTH), np.int64)
        scores = np.zeros((len(users), LENGTH), np.float32)
        places = at["row"].to_numpy(), at["rank"].to_numpy() - 1
        films[places], scores[places] = at["movie_id"].to_numpy(), at["score"].to_numpy()
        write_batch_lists(self.serving, users.to_list(), films, scores, champion)
        self.told(champion, len(users))
        note = f"{len(users):,} lists of {LENGTH} by v{champion.version}; {target}"
        return {"table": str(target), "note": note}

    def _recommender(self, interactions: pl.DataFrame, inputs: Json) -> RecommendationService:
        """The service as an API process has it, on the frozen histories."""
        loader = ModelLoader(self.serving, algorithms.load)
        loader.reload()
        loaded = loader.get(MOVIE_RECOMMENDER)
        if loaded is None or loaded.entry.card_sha256 != inputs["card"]:
            message = f"champion v{inputs['version']} was replaced meanwhile; run it again"
            raise ModelVersionNotFoundError(message)
        histories = Histories.from_frame(interactions, self.history_length)
        catalogue = Catalogue(lambda: self.lake.read("movies"))
        return RecommendationService(loader, histories, catalogue)


def _champion(serving: Path) -> Entry:
    served = read_manifest(serving).get(MOVIE_RECOMMENDER)
    if served is None or served.champion is None:
        message = "no recommender is champion yet; `movie-mlops run training rollout` makes one"
        raise ModelVersionNotFoundError(message)
    return served.champion


def _parts(users: int) -> range:
    return range(0, users, USERS_PER_PART)


def _part(folder: Path, first: int) -> Path:
    return folder / f"part-{first:09d}.parquet"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
