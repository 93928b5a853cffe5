"""Airflow from its own environment, on PostgreSQL: page and REST, scheduler, reader of the DAGs."""

import json
import sys
from pathlib import Path

from movie_mlops.orchestration import open_airflow
from movie_mlops.stack.asking import http_get
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text
from movie_mlops.stack.postgresql import database_url
from movie_mlops.stack.processes import run_once

ENVIRONMENT = Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-airflow")
"""Beside the environment of the house; `scripts/setup_env.py --airflow` makes it."""
DAGS = Path(__file__).resolve().parents[3] / "airflow" / "dags"
USERS = {"admin": "admin", "viewer": "viewer"}
"""Users and their roles; the passwords are generated."""


class Airflow(Engine):
    """Three processes, with LocalExecutor in the scheduler.

    No triggerer: no task of ours defers. Its tasks are steps of the house, which see the house's
    settings as they were when Airflow was started.
    """

    name = "airflow"
    title = "Airflow"
    port = 8080
    needs = ("postgresql",)
    start_seconds = 180.0

    def missing(self) -> Missing | None:
        """It needs its environment, and the DAGs of a checkout."""
        if not (ENVIRONMENT / "bin" / "airflow").is_file():
            return Missing(
                f"no Airflow: {ENVIRONMENT} is not there; python scripts/setup_env.py --airflow"
            )
        if not DAGS.is_dir():
            return Missing(f"no DAGs: {DAGS} is not there; it comes with a checkout of the project")
        return None

    def version(self) -> str:
        """As the environment's packages say."""
        found = ENVIRONMENT.glob("lib/python3*/site-packages/apache_airflow-*.dist-info")
        return next(found).name.removesuffix(".dist-info").rpartition("-")[2]

    def prepare(self, ground: Ground) -> None:
        """Write the passwords and bring the database to this version."""
        passwords = {user: ground.secret(f"airflow/{user}") for user in USERS}
        write_text(ground.folder / "passwords.json", json.dumps(passwords), 0o600)
        run_once(ground, (_program(), "db", "migrate"), _configuration(ground))

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """All on loopback; the log files are read where they lie, so no log server is started."""
        commands = {
            "api-server": (
                "api-server",
                "--host",
                ground.host,
                "--port",
                str(ground.port("airflow")),
            ),
            "scheduler": ("scheduler", "--skip-serve-logs"),
            "dag-processor": ("dag-processor",),
        }
        environment = {**ground.house(), **_configuration(ground)}
        return tuple(
            Process(name, (_program(), *arguments), environment)
            for name, arguments in commands.items()
        )

    def check(self, ground: Ground) -> None:
        """Its parts say that they are well, and it has read all DAGs."""
        http_get(ground, self.name, "/api/v2/monitor/health")  # one that hangs is told quickly
        runner = open_airflow(ground.url("airflow"), "admin", ground.secret("airflow/admin"))
        try:
            runner.ping()
        finally:
            runner.close()

    def environment(self, ground: Ground) -> dict[str, str]:
        """The house submits its runs as admin."""
        return {
            "MOVIE_MLOPS_RUNNER_URL": ground.url("airflow", "airflow+http"),
            "MOVIE_MLOPS_RUNNER_USERNAME": "admin",
            "MOVIE_MLOPS_RUNNER_PASSWORD": ground.secret("airflow/admin"),
        }


def _program() -> str:
    return str(ENVIRONMENT / "bin" / "airflow")


def _configuration(ground: Ground) -> dict[str, str]:
    """Airflow's settings; a task whose Airflow was killed is tried again within a minute."""
    secret, url = ground.secret, ground.url("airflow")
    settings = {
        "CORE__DAGS_FOLDER": str(DAGS),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "2",
        # all tasks work on one home, one at a time: they queue here and not at its lock
        "CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "1",
        "CORE__DEFAULT_TASK_RETRY_DELAY": "10",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{USERS[user]}" for user in USERS),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(ground.folder / "passwords.json"),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": f"{secret('airflow/fernet')}=",
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secret("airflow/api"),
        "API_AUTH__JWT_SECRET": secret("airflow/jwt-1") + secret("airflow/jwt-2"),
        "DATABASE__SQL_ALCHEMY_CONN": database_url(ground, "airflow"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {"AIRFLOW_HOME": str(ground.folder)} | {
        f"AIRFLOW__{key}": value for key, value in settings.items()
    }
