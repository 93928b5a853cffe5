"""Every setting of the house; the defaults are a laptop."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self, get_args

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.domain.experiments import Experiment

PREFIX = "MOVIE_MLOPS_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_EXPERIMENT = TypeAdapter(Experiment)


class ApiKey(BaseModel):
    """One key of the API; a key bound to a `subject` sees no other viewer's data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = ("read",)
    subject: str | None = Field(None, min_length=1, max_length=128)


class Settings(BaseModel):
    """All settings; relative paths and URLs resolve against `home`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(Path(), description="Folder that holds data/, var/ and .env of one source.")

    source_url: str = Field(
        "sample:",
        description="Where films come from: sample:, movielens:PATH-or-NAME, tmdb:, imdb:PATH.",
    )
    lake_url: str = Field("file:data", description="Folder of raw pages and tables.")
    snapshots_url: str = Field("file:var/dvc", description="Cache of the data snapshots (DVC).")
    online_store_url: str = Field("sqlite:var/online.db", description="Feast's online store.")
    tracking_url: str = Field("sqlite:///var/mlflow.db", description="MLflow: file or server.")
    serving_url: str = Field("file:var/serving", description="Folder of bundles and manifest.")
    events_url: str = Field(
        "sqlite:var/events.db",
        description="The event log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT][/PREFIX].",
    )
    runner_url: str = Field("inprocess:", description="What runs pipelines.")
    control_url: str = Field(
        "unix:var/control.sock", description="Where the worker answers for features and registry."
    )

    tmdb_api_key: SecretStr | None = Field(
        None, description="Key of themoviedb.org; none is shipped."
    )
    tmdb_base_url: str = Field(
        "https://api.themoviedb.org/3",
        description="TMDB or the local server of `movie-mlops tmdb-server`.",
    )
    tmdb_pages: int = Field(50, ge=1, le=500, description="Pages of popular films to fetch.")

    host: str = Field("127.0.0.1", description="Address that the servers bind to.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the API.")
    admin_api_key: SecretStr | None = Field(
        None, description="Key of calls that change models or pipelines; `up` makes one."
    )
    api_keys: tuple[ApiKey, ...] = Field(
        (), description="Further keys as a JSON list, by hash; `movie-mlops keys create` adds one."
    )
    public_reads: bool = Field(
        False,
        description="Reads and viewers' events need no key although HOST is not loopback.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Accepted Host headers, as a JSON list.",
    )
    cors_origins: tuple[str, ...] = Field((), description="Other origins that may call, JSON list.")
    max_body_bytes: int = Field(65_536, ge=1024, description="Largest request body in bytes.")
    request_timeout_seconds: float = Field(10.0, gt=0, description="Longest a request may take.")
    max_in_flight: int = Field(
        512, ge=1, description="Requests that one API process works on at once; more: 503."
    )
    writes_per_minute: int = Field(1_000, ge=1, description="Writes per client and minute.")
    writes_burst: int = Field(100, ge=1, description="Writes of one client at once.")

    seed: int = Field(42, ge=0, description="Seed of everything drawn at random.")
    sample_films: int = Field(1_000, ge=60, le=1_000_000, description="Invented films.")
    sample_people: int = Field(1_200, ge=2, le=1_000_000, description="Simulated people.")
    sample_watches_per_person: int = Field(60, ge=2, le=5_000, description="Mean watched films.")

    event_log_max_bytes: int = Field(
        2_000_000_000, ge=1_000_000, description="Size at which the embedded log answers 503."
    )
    event_retention_days: float = Field(
        90.0,
        gt=0,
        description="Events that everybody has are forgotten after so many days.",
    )
    history_length: int = Field(
        200, ge=10, le=2_000, description="Latest films per user that the API keeps in memory."
    )
    model_memory_mb: int = Field(
        256, ge=16, description="Memory that one recommender's arrays may take when served."
    )
    candidate_algorithms: tuple[str, ...] = Field(
        ("sequence_linear", "blend"),
        description="Recommenders that training may choose from, JSON list; see `evaluate`.",
    )
    gate_latency_ms: float = Field(
        20.0, gt=0, description="Longest that a champion may take for one list, CPU ms (p95)."
    )
    gate_memory_mb: float = Field(
        4_096.0, gt=0, description="Most memory of the process that trains a champion."
    )
    gate_bundle_mb: float = Field(1_024.0, gt=0, description="Largest bundle of a champion.")
    promotion_samples: int = Field(1_000, ge=100, description="Bootstrap samples of the gate.")
    conformal_level: float = Field(0.9, gt=0, lt=1, description="Nominal level of intervals.")
    training_interval_hours: float = Field(24.0, gt=0, description="Time between trainings.")

    rollout_mode: Literal["immediate", "staged"] = Field(
        "immediate",
        description=(
            "After the gate: champion at once, or staged: shadow, canary, then champion by verdict."
        ),
    )
    shadow_stage_share: float = Field(
        0.2, gt=0, le=1, description="Share of lists that a staged challenger makes unseen."
    )
    shadow_stage_lists: int = Field(
        200, ge=1, description="Unseen lists that a staged challenger must make to become canary."
    )
    shadow_max_hours: float = Field(
        24.0, gt=0, description="A challenger with fewer unseen lists by then is archived."
    )
    canary_share: float = Field(
        0.1, gt=0, lt=1, description="Share of viewers who get the canary's lists."
    )
    canary_attribution_minutes: float = Field(
        60.0, gt=0, description="Minutes in which a viewer's act counts for the list shown."
    )
    canary_alpha: float = Field(
        0.05, gt=0, lt=1, description="False-alarm rate of the canary's verdict."
    )
    canary_max_hours: float = Field(
        72.0, gt=0, description="A canary without a verdict by then is archived."
    )
    rollback_watch_hours: float = Field(
        24.0,
        ge=0,
        description="Hours in which a new champion that is clearly worse in use is taken back.",
    )
    retrain_cooldown_hours: float = Field(
        6.0, ge=0, description="Least time between two trainings that drift set off."
    )
    retrain_attempts: int = Field(
        2, ge=1, description="Trainings in a row that drift may outlive; then the loop pages."
    )
    overload_percent: float = Field(
        80.0, gt=0, le=100, description="CPU or memory above which a service asks for scaling."
    )
    scaling_cooldown_minutes: float = Field(
        10.0, ge=0, description="Least time between two scaling alerts of one service."
    )

    drift_window_hours: float = Field(
        168.0, gt=0, description="Latest hours that a drift check compares, since the training."
    )
    drift_false_alarm_rate: float = Field(
        0.01, ge=0.001, le=0.2, description="Chance that a check alarms although nothing changed."
    )
    drift_min_events: int = Field(
        200, ge=50, description="Fewer acts or answers in the window are too little to judge."
    )
    drift_features: tuple[str, ...] = Field(
        (
            *("genre", "popularity", "era", "activity", "interaction"),
            *("rating", "approval", "click"),
            *("path", "shown_genre", "shown_popularity", "predicted_rating"),
        ),
        description="What is watched for drift, JSON list.",
    )

    experiment: str = Field(
        "",
        description=(
            "An A/B test or canary as JSON; the first arm is the control, empty: none. "
            '{"name": "ranker-2", "arms": [{"name": "control", "alias": "champion", '
            '"weight": 0.9}, {"name": "canary", "alias": "challenger", "weight": 0.1}], '
            '"attribution_minutes": 60, "alpha": 0.05}'
        ),
    )
    shadow_share: float = Field(
        0.0, ge=0, le=1, description="Share of lists that the challenger makes too, unseen."
    )

    @field_validator("experiment")
    @classmethod
    def _is_experiment(cls, text: str) -> str:
        try:
            if text:
                _EXPERIMENT.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "JSON"
            message = f"no A/B test: {where}: {first['msg']}"
            raise ValueError(message) from error
        return text

    @property
    def running_experiment(self) -> Experiment | None:
        """The A/B test that runs."""
        return _EXPERIMENT.validate_json(self.experiment) if self.experiment else None

    @model_validator(mode="after")
    def _closed_when_public(self) -> Self:
        if self.host not in LOOPBACK and self.admin_api_key is None:
            message = f"{PREFIX}HOST={self.host} is not loopback: set {PREFIX}ADMIN_API_KEY first"
            raise ValueError(message)
        return self

    @property
    def is_open(self) -> bool:
        """Whether viewers need no key."""
        return self.public_reads or self.host in LOOPBACK

    def path(self, url: str) -> Path:
        """The file or folder that a `scheme:path` URL of this home names."""
        _, _, rest = url.partition(":")
        return (self.home / rest.removeprefix("///")).absolute()


def field_key(name: str) -> str:
    """The environment key that sets a field; TMDB's two names are the guide's own."""
    return name.upper() if name in ("tmdb_api_key", "tmdb_base_url") else PREFIX + name.upper()


def _known(values: Iterable[tuple[str, str | None]], origin: str) -> dict[str, str]:
    keys = {field_key(name): name for name in Settings.model_fields}
    found: dict[str, str] = {}
    for key, value in values:
        if key in keys and value is not None:
            found[keys[key]] = value
        elif key.startswith(PREFIX) and key not in keys:
            message = f"{key} in {origin} is no setting; `.env.template` lists them all"
            raise ConfigurationError(message)
    return found


def load_settings(home: Path | None = None, **arguments: Any) -> Settings:
    """Read settings; priority: arguments, environment, `<home>/.env`, `./.env`, defaults.

    Raises:
        ConfigurationError: an unknown MOVIE_MLOPS_ key or a value out of range, named.
    """
    here = _known(dotenv_values(".env").items(), "./.env")
    environment = _known(os.environ.items(), "the environment")
    chosen = Path(home or environment.get("home") or here.get("home") or ".")
    inside = _known(dotenv_values(chosen / ".env").items(), str(chosen / ".env"))
    merged: dict[str, Any] = {**here, **inside, **environment, **arguments, "home": chosen}
    for name, value in merged.items():
        annotation = str(Settings.model_fields[name].annotation)
        if name == "api_keys" and isinstance(value, str):
            merged[name] = _json(field_key(name), value)
        elif annotation.startswith("tuple") and isinstance(value, str):
            merged[name] = [part.strip(' "') for part in value.strip("[] ").split(",") if part]
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        key = field_key(field) if field in Settings.model_fields else field
        message = f"{key or 'settings'}: {first['msg']}"
        raise ConfigurationError(message) from error


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a child process that shall see exactly these settings."""
    env = dict(os.environ)
    env[PREFIX + "HOME"] = str(settings.home)
    for name in settings.model_fields_set - {"home"}:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            env[field_key(name)] = _text(value)
    return env


def _text(value: Any) -> str:
    """A value as the environment holds it."""
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return json.dumps([each.model_dump() for each in value])
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text or "[]")
    except ValueError:
        message = f"{key}: no JSON"
        raise ConfigurationError(message) from None


def env_template() -> str:
    """The text of `.env.template`: every setting with its meaning and default."""
    lines = [
        "# Generated by `make generate`; copy to .env and change what you need.",
        "# Keys of this project that are not listed here are refused at start.",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default is None else default
        lines += ["", f"# {field.description}", f"#{field_key(name)}={shown}"]
    return "\n".join(lines) + "\n"


def turn_off_telemetry() -> None:
    """Tell the libraries not to call home; a user who set these otherwise is left alone."""
    for key, value in {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "FEAST_USAGE": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(key, value)


def lower_priority() -> None:
    """Let this process give way to serving (idempotent per process)."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 10))
