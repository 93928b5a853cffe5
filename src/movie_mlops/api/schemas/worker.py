"""Bodies of what the worker answers: features, registry, pipelines."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Entity = Literal["movie", "user"]


class BatchIn(BaseModel):
    """Features of several entities."""

    entity_ids: list[int | str] = Field(min_length=1, max_length=1_000, examples=[[1, 2, 3]])
    features: list[Annotated[str, Field(max_length=200)]] = Field(
        min_length=1, max_length=100, examples=[["rating", "popularity"]]
    )
    entity_type: Entity = "movie"


class ExperimentIn(BaseModel):
    """A new experiment."""

    name: str = Field(
        min_length=1, max_length=200, pattern=r"^[\w .-]+$", examples=["longer histories"]
    )
    description: str = Field("", max_length=2_000)


class TransitionIn(BaseModel):
    """A stage in the guide's words."""

    model_name: str = Field(max_length=200, examples=["movie_predictor"])
    version: str = Field(pattern=r"^\d{1,9}$")
    stage: Literal["None", "Staging", "Production", "Archived"] = Field(examples=["Production"])
    description: str = Field("", max_length=2_000)


class PromotionIn(BaseModel):
    """A version to make champion."""

    version: str = Field(pattern=r"^\d{1,9}$")
    description: str = Field("promoted through the API", max_length=2_000)


class Freshness(BaseModel):
    """When the online store was filled, and whether that is longer ago than it may be."""

    materialized_at: datetime | None
    is_stale: bool


class FeaturesOut(Freshness):
    """Online features by name; null where there is none."""

    entity_type: Entity
    entity_id: int | str
    features: dict[str, Any]


class EntityFeatures(BaseModel):
    """Features of one entity of a batch."""

    entity_id: int | str
    features: dict[str, Any]


class FeatureRows(Freshness):
    """One row per entity, in order."""

    entity_type: Entity
    results: list[EntityFeatures]


class ExperimentsOut(BaseModel):
    """All experiments."""

    experiments: list[dict[str, Any]]


class ExperimentOut(BaseModel):
    """The experiment that was made."""

    experiment_id: str
    name: str
    description: str


class VersionOut(BaseModel):
    """A registered version; `stage` is the guide's word for its alias."""

    name: str
    version: str
    stage: str
    aliases: list[str]


class ModelVersions(BaseModel):
    """A registered model and its latest versions."""

    name: str
    latest_versions: list[dict[str, Any]]


class RegisteredModels(BaseModel):
    """All registered models."""

    models: list[ModelVersions]


class RunsOut(BaseModel):
    """The latest pipeline runs, the latest first."""

    runs: list[dict[str, Any]]


class RunStarted(BaseModel):
    """The run that was started."""

    run_id: str
    pipeline: str
    state: str
