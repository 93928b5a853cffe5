"""Prometheus and Alertmanager: they watch the house and the stack, and tell the closed loop."""

import json

from movie_mlops.settings import load_settings
from movie_mlops.stack.asking import http_get, program, program_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text

_VERSION = r"version (\S+)"
_WEBHOOK = "/api/v1/trigger/alertmanager"


class Prometheus(Engine):
    """Scrapes the API and whatever the stack notes under `var/stack/targets/`."""

    name, title, port = "prometheus", "Prometheus", 9090
    metrics_path = "/metrics"
    start_seconds = 60.0

    def missing(self) -> Missing | None:
        """Debian's package."""
        return program("prometheus", "prometheus")

    def version(self) -> str:
        """As the program says."""
        return program_version(["prometheus", "--version"], _VERSION)

    def prepare(self, ground: Ground) -> None:
        """The configuration; JSON is YAML."""
        api = load_settings(ground.home).port
        alertmanager = f"{ground.host}:{ground.port('alertmanager')}"
        config = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": [str(ground.folder / "rules" / "*.yml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": "api", "static_configs": [{"targets": [f"{ground.host}:{api}"]}]},
                {
                    "job_name": "stack",
                    "file_sd_configs": [
                        {
                            "files": [str(ground.folder.parent / "targets" / "*.json")],
                            "refresh_interval": "5s",
                        }
                    ],
                },
            ],
        }
        write_text(ground.folder / "prometheus.yml", json.dumps(config, indent=1))

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server; it keeps 15 days."""
        command = (
            "prometheus",
            f"--config.file={ground.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={ground.folder / 'data'}",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address={ground.host}:{ground.port(self.name)}",
        )
        return (Process("server", command),)

    def check(self, ground: Ground) -> None:
        """It says that it is ready."""
        http_get(ground, self.name, "/-/ready")


class Alertmanager(Engine):
    """Sends every alert to the API's webhook, which makes events of those it knows."""

    name, title, port = "alertmanager", "Alertmanager", 9093
    metrics_path = "/metrics"
    start_seconds = 60.0

    def missing(self) -> Missing | None:
        """Debian's package."""
        return program("prometheus-alertmanager", "prometheus-alertmanager")

    def version(self) -> str:
        """As the program says."""
        return program_version(["prometheus-alertmanager", "--version"], _VERSION)

    def prepare(self, ground: Ground) -> None:
        """The configuration, and the key that the API asks for; it is read at every alert."""
        settings = load_settings(ground.home)
        secret = settings.admin_api_key
        key = ground.folder / "api_key"
        write_text(key, "" if secret is None else secret.get_secret_value(), 0o600)
        receiver = {
            "url": f"http://{ground.host}:{settings.port}{_WEBHOOK}",
            "send_resolved": True,
            "http_config": {"authorization": {"credentials_file": str(key)}},
        }
        config = {
            "route": {
                "receiver": "house",
                "group_by": ["alertname"],
                "group_wait": "5s",
                "group_interval": "30s",
                "repeat_interval": "4h",
            },
            "receivers": [{"name": "house", "webhook_configs": [receiver]}],
        }
        write_text(ground.folder / "alertmanager.yml", json.dumps(config, indent=1))

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server, alone: no cluster."""
        command = (
            "prometheus-alertmanager",
            f"--config.file={ground.folder / 'alertmanager.yml'}",
            f"--storage.path={ground.folder / 'data'}",
            "--data.retention=24h",
            f"--web.listen-address={ground.host}:{ground.port(self.name)}",
            "--cluster.listen-address=",
        )
        return (Process("server", command),)

    def check(self, ground: Ground) -> None:
        """It says that it is ready."""
        http_get(ground, self.name, "/-/ready")
