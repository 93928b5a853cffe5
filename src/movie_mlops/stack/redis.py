"""Redis: the online store of features; password, append-only file, bounded memory."""

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.settings import field_key
from movie_mlops.stack.asking import exchange, program, program_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text

_CONFIG = """\
bind {host}
port {port}
requirepass {password}
daemonize no
dir "{folder}"
logfile ""
# every write is in the file before it is answered for longer than a second; a kill loses none
appendonly yes
appendfsync everysec
save ""
# when it is full, writes are refused and nothing that was stored goes away
maxmemory 512mb
maxmemory-policy noeviction
"""


class Redis(Engine):
    """One Redis server on a generated configuration."""

    name, title, port = "redis", "Redis", 6379
    start_seconds = 30.0

    def missing(self) -> Missing | None:
        """Debian's package."""
        return program("redis-server", "redis-server")

    def version(self) -> str:
        """As the program says."""
        return program_version(["redis-server", "--version"], r"v=(\S+)")

    def prepare(self, ground: Ground) -> None:
        """The configuration, which holds the password."""
        text = _CONFIG.format(
            host=ground.host,
            port=ground.port(self.name),
            password=ground.secret("redis"),
            folder=ground.folder,
        )
        write_text(ground.folder / "redis.conf", text, 0o600)

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server."""
        return (Process("server", ("redis-server", str(ground.folder / "redis.conf"))),)

    def check(self, ground: Ground) -> None:
        """PING with the password."""
        said = f"AUTH {ground.secret('redis')}\r\nPING\r\n".encode()
        heard = exchange(
            ground, self.name, said, lambda so_far: so_far.count(b"\r\n") > 1 or b"-" in so_far
        )
        if b"+PONG" not in heard:
            message = f"Redis answers {heard.decode(errors='replace').strip()!r}"
            raise EngineUnavailableError(message)

    def environment(self, ground: Ground) -> dict[str, str]:
        """The online store."""
        return {
            field_key("online_store_url"): f"{ground.url(self.name, 'redis')}/0",
            field_key("online_store_password"): ground.secret("redis"),
        }
