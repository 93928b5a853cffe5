"""Exporters: what Redis and PostgreSQL say of themselves, for Prometheus."""

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.asking import http_get, program, program_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.postgresql import make_role

_ROLE = "exporter"


class RedisExporter(Engine):
    """Memory, clients, commands and keys of the stack's Redis."""

    name, title, port = "redis-exporter", "Redis exporter", 9121
    needs = ("redis",)
    metrics_path = "/metrics"
    start_seconds = 30.0

    def missing(self) -> Missing | None:
        """Debian's package."""
        return program("prometheus-redis-exporter", "prometheus-redis-exporter")

    def version(self) -> str:
        """As the program says."""
        return program_version(["prometheus-redis-exporter", "-version"], r"Exporter (\S+)")

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """One, which asks Redis at each scrape."""
        command = (
            "prometheus-redis-exporter",
            f"-web.listen-address={ground.host}:{ground.port(self.name)}",
            f"-redis.addr={ground.url('redis', 'redis')}",
        )
        return (Process("server", command, {"REDIS_PASSWORD": ground.secret("redis")}),)

    def check(self, ground: Ground) -> None:
        """It reaches Redis."""
        _check_up(ground, self.name, b"redis_up 1")


class PostgreSQLExporter(Engine):
    """Connections, sizes, locks and statements of the stack's PostgreSQL, as `pg_monitor`."""

    name, title, port = "postgresql-exporter", "PostgreSQL exporter", 9187
    needs = ("postgresql",)
    metrics_path = "/metrics"
    start_seconds = 30.0

    def missing(self) -> Missing | None:
        """Debian's package."""
        return program("prometheus-postgres-exporter", "prometheus-postgres-exporter")

    def version(self) -> str:
        """As the program says."""
        return program_version(["prometheus-postgres-exporter", "--version"], r"version (\S+)")

    def prepare(self, ground: Ground) -> None:
        """A role that may look at everything's state and at no row."""
        make_role(ground, _ROLE, member_of="pg_monitor")

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """One, which asks PostgreSQL at each scrape."""
        address = f"{ground.host}:{ground.port('postgresql')}"
        environment = {
            "DATA_SOURCE_URI": f"{address}/postgres?sslmode=disable",
            "DATA_SOURCE_USER": _ROLE,
            "DATA_SOURCE_PASS": ground.secret(f"postgresql-{_ROLE}"),
        }
        listen = f"--web.listen-address={ground.host}:{ground.port(self.name)}"
        return (Process("server", ("prometheus-postgres-exporter", listen), environment),)

    def check(self, ground: Ground) -> None:
        """It reaches PostgreSQL."""
        _check_up(ground, self.name, b"pg_up 1")


def _check_up(ground: Ground, name: str, line: bytes) -> None:
    if line not in http_get(ground, name, "/metrics").splitlines():
        message = f"{name} does not reach what it watches: no {line.decode()!r} among its metrics"
        raise EngineUnavailableError(message)
