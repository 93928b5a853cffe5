"""Runs, registered versions, aliases and lineage, kept in MLflow (a file or a server)."""

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from movie_mlops.domain.errors import EngineUnavailableError, ModelVersionNotFoundError
from movie_mlops.domain.versions import STAGE_TO_ALIAS, Alias, ModelVersion
from movie_mlops.models.algorithms import load
from movie_mlops.models.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE = "bundle"
PLOTS = "plots"
SNAPSHOT_TAG = "snapshot"
ALGORITHM_TAG = "algorithm"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one run leaves in the tracker; folders are copied. Without a bundle it has no model."""

    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    bundle: Path | None = None
    plots: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry:
    """MLflow behind the verbs of this house. Stages are accepted as words for aliases."""

    def __init__(self, tracking_uri: str, artifacts: Path) -> None:
        self._uri = tracking_uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient  # noqa: PLC0415 (seconds to import)

        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        else:
            _tame_client()
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table it makes
        try:
            return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        except Exception as error:  # MLflow lets SQLAlchemy's errors through here
            message = f"the registry {self._uri} cannot be opened: {str(error).splitlines()[0]}"
            raise EngineUnavailableError(message) from error

    def ping(self) -> None:
        """Return when MLflow answers, else raise EngineUnavailableError."""
        self._call("search_experiments", max_results=1)

    def create_experiment(self, name: str, description: str = "") -> str:
        """Id of the experiment, made when missing."""
        found = self._call("get_experiment_by_name", name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._artifacts / name).absolute().as_uri() if self._is_embedded else None
        tags = {"mlflow.note.content": description}
        return str(self._call("create_experiment", name, artifact_location=location, tags=tags))

    def list_experiments(self) -> list[dict[str, str]]:
        """Name, id and description of each experiment."""
        return [
            {
                "experiment_id": str(found.experiment_id),
                "name": str(found.name),
                "description": str(found.tags.get("mlflow.note.content", "")),
            }
            for found in self._call("search_experiments")
        ]

    def log_run(self, experiment: str, record: RunRecord) -> str:
        """Write a finished run with its parameters, metrics, tags and files; return its id."""
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 (seconds to import)

        experiment_id = self.create_experiment(experiment)
        run = self._call("create_run", experiment_id, run_name=record.name)
        run_id = str(run.info.run_id)
        now = int(run.info.start_time)
        metrics = [
            Metric(key.replace("@", "_at_"), float(value), now, 0)
            for key, value in record.metrics.items()
            if math.isfinite(value)
        ]
        parameters = [Param(key, str(value)[:6000]) for key, value in record.parameters.items()]
        tags = [RunTag(key, value) for key, value in record.tags.items()]
        self._call("log_batch", run_id, metrics=metrics, params=parameters, tags=tags)
        if record.bundle is not None:
            self._call("log_artifacts", run_id, str(record.bundle), BUNDLE)
        if record.plots is not None and record.plots.is_dir():
            self._call("log_artifacts", run_id, str(record.plots), PLOTS)
        for name, text in record.texts.items():
            self._call("log_text", run_id, text, name)
        self._call("set_terminated", run_id)
        return run_id

    def register_model(
        self, model_name: str, run_id: str, version: str | None = None, description: str = ""
    ) -> ModelVersion:
        """Make a version of the run's bundle; a version given by the caller becomes a tag."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (seconds to import)

        try:
            self._client.create_registered_model(model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise _translated(error) from error
        run = self._call("get_run", run_id)
        tags = {key: run.data.tags[key] for key in (SNAPSHOT_TAG, ALGORITHM_TAG)}
        if version is not None:
            tags["version"] = version
        made = self._call(
            "create_model_version",
            model_name,
            source=f"{run.info.artifact_uri}/{BUNDLE}",
            run_id=run_id,
            tags=tags,
            description=description,
        )
        return self._version(made)

    def set_alias(self, model_name: str, alias: Alias, version: str) -> None:
        """Let the alias name this version.

        Raises:
            ModelVersionNotFoundError: no such model or version.
        """
        self._call("set_registered_model_alias", model_name, str(alias), version)

    def remove_alias(self, model_name: str, alias: str) -> None:
        """Let the alias name nothing; without effect when it names nothing already.

        Raises:
            ModelVersionNotFoundError: no such model.
        """
        self._call("delete_registered_model_alias", model_name, str(alias))

    def transition_stage(self, model_name: str, version: str, stage: str) -> ModelVersion:
        """Production and Staging set an alias; None and Archived take the version's away.

        Raises:
            ModelVersionNotFoundError: no such model or version.
        """
        found = self.get_model_metadata(model_name, version)
        if stage in STAGE_TO_ALIAS:
            self.set_alias(model_name, STAGE_TO_ALIAS[stage], found.version)
        else:
            for alias in found.aliases:
                self.remove_alias(model_name, alias)
        return self.get_model_metadata(model_name, found.version)

    def list_models(self) -> list[dict[str, Any]]:
        """`[{name, latest_versions}]`, the newest versions first."""
        return [
            {"name": str(model.name), "latest_versions": self._versions(str(model.name))}
            for model in self._call("search_registered_models")
        ]

    def get_model_metadata(self, model_name: str, version: str = "latest") -> ModelVersion:
        """One version by number, alias, or `latest`.

        Raises:
            ModelVersionNotFoundError: no such model or version.
        """
        if version == "latest":
            versions = self._versions(model_name)
            if not versions:
                message = f"no model {model_name!r} is registered; run the training pipeline first"
                raise ModelVersionNotFoundError(message)
            return versions[0]
        by_alias = version in {str(alias) for alias in Alias}
        call = "get_model_version_by_alias" if by_alias else "get_model_version"
        return self._version(self._call(call, model_name, version))

    def compare_model_versions(
        self, model_name: str, versions: Sequence[str], metrics: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """Version to metric to value; what does not exist is None."""
        table: dict[str, dict[str, float | None]] = {}
        for version in versions:
            try:
                found = self.get_model_metadata(model_name, str(version)).metrics
            except ModelVersionNotFoundError:
                found = {}
            table[str(version)] = {
                metric: found.get(metric.replace("@", "_at_")) for metric in metrics
            }
        return table

    def load_model(self, model_name: str, version: str = "latest") -> Any:
        """The fitted model of a version.

        Raises:
            ModelVersionNotFoundError: no such model or version.
            ArtifactCorruptError: its bundle is damaged.
        """
        with tempfile.TemporaryDirectory() as folder:
            arrays, card = load_bundle(self.fetch_bundle(model_name, version, Path(folder)))
            return load({name: array.copy() for name, array in arrays.items()}, card)

    def fetch_bundle(self, model_name: str, version: str, folder: Path) -> Path:
        """Copy a version's bundle into `folder`; where it lies then.

        Raises:
            ModelVersionNotFoundError: no such model or version.
        """
        found = self.get_model_metadata(model_name, version)
        return Path(self._call("download_artifacts", found.run_id, BUNDLE, str(folder)))

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def _is_embedded(self) -> bool:
        return self._uri.startswith("sqlite:")

    def _versions(self, model_name: str) -> list[ModelVersion]:
        found = self._call("search_model_versions", f"name = '{model_name.replace(chr(39), '')}'")
        # the search leaves aliases out, so each is read again
        numbers = sorted((int(version.version) for version in found), reverse=True)[:20]
        return [self.get_model_metadata(model_name, str(number)) for number in numbers]

    def _version(self, found: Any) -> ModelVersion:
        run = self._call("get_run", found.run_id)
        return ModelVersion(
            name=str(found.name),
            version=str(found.version),
            algorithm=str(found.tags.get(ALGORITHM_TAG, "")),
            run_id=str(found.run_id),
            snapshot=str(found.tags.get(SNAPSHOT_TAG, "")),
            aliases=tuple(str(alias) for alias in found.aliases),
            metrics=dict(run.data.metrics),
            tags=dict(found.tags),
        )

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (seconds to import)

        try:
            return getattr(self._client, method)(*arguments, **named)
        except MlflowException as error:
            raise _translated(error) from error
        except OSError as error:  # of requests, where files go to and from a server
            message = f"the registry {self._uri} does not answer: {str(error).splitlines()[0]}"
            raise EngineUnavailableError(message) from error


def _tame_client() -> None:
    """MLflow's client tries a server that is away seven times, two minutes each; ours twice.

    It also prints the address of every run.
    """
    from mlflow import environment_variables as known  # noqa: PLC0415 (seconds to import)

    for variable, value in (
        (known.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1),
        (known.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, 1),
        (known.MLFLOW_HTTP_REQUEST_TIMEOUT, 10),
        (known.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, True),
    ):
        if not variable.is_set():
            variable.set(value)


def _translated(error: Any) -> Exception:
    missing = error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    text = str(error.message).splitlines()[0]
    return ModelVersionNotFoundError(text) if missing else EngineUnavailableError(text)
