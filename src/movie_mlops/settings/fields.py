"""Every setting of the house: name, type, bounds, meaning; the defaults are a laptop."""

from pathlib import Path
from typing import Literal, Self, get_args

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

    env: Literal["development", "staging", "production"] = Field(
        "development",
        description="Which configs/ENV.yaml of the package stands between `.env` and defaults.",
    )
    home: Path = Field(Path(), description="Folder that holds data/, var/ and .env of one source.")

    source_url: str = Field(
        "sample:",
        description="Where films come from: sample:, movielens:PATH-or-NAME, tmdb:, imdb:PATH.",
    )
    lake_url: str = Field(
        "file:data",
        description="Raw pages and tables: file:PATH, or s3://BUCKET[/PREFIX], copied to data/.",
    )
    snapshots_url: str = Field("file:var/dvc", description="Cache of the data snapshots (DVC).")
    table_engine_url: str = Field(
        "duckdb:",
        description="What computes tables: duckdb: or spark:MASTER, e.g. spark:local[2].",
    )
    online_store_url: str = Field(
        "sqlite:var/online.db",
        description="Feast's online store: sqlite:PATH or redis://HOST:PORT[/DB].",
    )
    online_store_password: SecretStr | None = Field(
        None, description="Password of the Redis that is the online store."
    )
    feature_server_url: str = Field(
        "", description="Feast's server, e.g. http://127.0.0.1:6566; empty: read the store here."
    )
    feature_max_age_hours: float = Field(
        48.0, gt=0, le=8760, description="Features filled longer ago are answered as stale."
    )
    tracking_url: str = Field("sqlite:///var/mlflow.db", description="MLflow: file or server.")
    serving_url: str = Field("file:var/serving", description="Folder of bundles and manifest.")
    events_url: str = Field(
        "sqlite:var/events.db",
        description="The event log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT][/PREFIX].",
    )
    state_url: str = Field(
        "sqlite:var",
        description=(
            "Exposures, A/B tests and the loop's memory: sqlite:FOLDER or "
            "postgresql://USER@HOST:PORT/DATABASE."
        ),
    )
    state_password: SecretStr | None = Field(
        None, description="Password of the PostgreSQL that holds them."
    )
    runner_url: str = Field(
        "inprocess:", description="What runs pipelines: inprocess: or airflow+http://HOST:PORT."
    )
    runner_username: str = Field("admin", description="Airflow's user who starts runs.")
    runner_password: SecretStr | None = Field(None, description="The password of that user.")
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

    @property
    def lake_folder(self) -> Path:
        """Where raw pages and tables lie: the lake itself, or the working copy of a store."""
        return self.path("file:data" if self.lake_is_remote else self.lake_url)

    @property
    def lake_is_remote(self) -> bool:
        """Whether an object store has the tables."""
        return self.lake_url.startswith("s3://")

    def path(self, url: str) -> Path:
        """The file or folder that a `scheme:path` URL of this home names."""
        _, _, rest = url.partition(":")
        return (self.home / rest.removeprefix("///")).absolute()
