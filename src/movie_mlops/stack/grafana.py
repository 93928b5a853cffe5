"""Grafana, where it is installed: Prometheus is its data source."""

import json
import shutil
from pathlib import Path

from movie_mlops.stack.asking import http_get, program_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text

_HOMEPATH = Path("/usr/share/grafana")


class Grafana(Engine):
    """One server; user admin, its password is the secret `grafana`."""

    name, title, port = "grafana", "Grafana", 3000
    metrics_path = "/metrics"

    def missing(self) -> Missing | None:
        """Debian has no package of it."""
        if shutil.which("grafana-server") and _HOMEPATH.is_dir():
            return None
        return Missing("grafana-server is not installed: https://grafana.com/grafana/download")

    def version(self) -> str:
        """As the program says."""
        return program_version(["grafana-server", "-v"], r"[Vv]ersion (\S+)")

    def prepare(self, ground: Ground) -> None:
        """Configuration and data source."""
        sources = ground.folder / "provisioning" / "datasources"
        sources.mkdir(parents=True, exist_ok=True)
        source = {
            "name": "Prometheus",
            "uid": "prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": ground.url("prometheus"),
            "isDefault": True,
        }
        text = json.dumps({"apiVersion": 1, "datasources": [source]}, indent=1)
        write_text(sources / "prometheus.yaml", text)

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server."""
        environment = {
            "GF_SERVER_HTTP_ADDR": ground.host,
            "GF_SERVER_HTTP_PORT": str(ground.port(self.name)),
            "GF_PATHS_DATA": str(ground.folder / "data"),
            "GF_PATHS_LOGS": str(ground.folder),
            "GF_PATHS_PROVISIONING": str(ground.folder / "provisioning"),
            "GF_LOG_MODE": "console",
            "GF_SECURITY_ADMIN_PASSWORD": ground.secret("grafana"),
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
        }
        command = ("grafana-server", "--homepath", str(_HOMEPATH))
        return (Process("server", command, environment),)

    def check(self, ground: Ground) -> None:
        """Its health, database included."""
        http_get(ground, self.name, "/api/health")
