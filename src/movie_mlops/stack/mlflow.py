"""MLflow's server: tracking and registry on PostgreSQL, artifacts in its folder."""

import sys
from importlib import util

from movie_mlops.settings import field_key
from movie_mlops.stack.asking import http_get, modules, package_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.postgresql import database_url


class Mlflow(Engine):
    """One server with one worker."""

    name, title, port = "mlflow", "MLflow", 5000
    needs = ("postgresql",)
    start_seconds = 180.0  # the first start makes the tables

    @property
    def metrics_path(self) -> str | None:  # type: ignore[override]
        """Only with MLflow's own exporter, a package of its own."""
        return "/metrics" if util.find_spec("prometheus_flask_exporter") else None

    def missing(self) -> Missing | None:
        """The database's client."""
        return modules(["mlflow", "psycopg2"], "stack")

    def version(self) -> str:
        """The package's."""
        return package_version("mlflow")

    def prepare(self, ground: Ground) -> None:
        """The folder of artifacts."""
        (ground.folder / "artifacts").mkdir(exist_ok=True)

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server; without its job workers, which take 1.5 GB and which nobody asks."""
        port = ground.port(self.name)
        names = {ground.host, "localhost", "127.0.0.1"}
        command = [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", ground.host, "--port", str(port), "--workers", "1"),
            *("--artifacts-destination", str(ground.folder / "artifacts")),
            *("--allowed-hosts", ",".join(sorted(f"{name}:{port}" for name in names))),
            *("--uvicorn-opts", "--no-access-log"),
        ]
        if self.metrics_path:
            command += ["--expose-prometheus", str(ground.folder / "metrics")]
        environment = {
            "MLFLOW_BACKEND_STORE_URI": database_url(ground, "mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        return (Process("server", tuple(command), environment),)

    def check(self, ground: Ground) -> None:
        """Its health, and a question that goes to the database."""
        http_get(ground, self.name, "/health")
        http_get(ground, self.name, "/api/2.0/mlflow/experiments/search?max_results=1")

    def environment(self, ground: Ground) -> dict[str, str]:
        """Tracking and registry."""
        return {field_key("tracking_url"): ground.url(self.name)}
