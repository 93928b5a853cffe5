"""PostgreSQL: what MLflow, Airflow and the house keep; own cluster, passwords, no root."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.settings import field_key
from movie_mlops.stack.asking import ANSWER_SECONDS, modules, program_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text
from movie_mlops.stack.processes import run_once

DATABASES = ("mlflow", "airflow", "movie_mlops")
"""Each has a role of its name, which owns it and whose secret is `postgresql-<name>`."""
_USER = "postgres"
_SETTINGS = {
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "max_connections": "100",
}


class PostgreSQL(Engine):
    """One cluster under the engine's folder."""

    name, title, port = "postgresql", "PostgreSQL", 5432
    stop_signal = signal.SIGINT  # fast shutdown: connections are ended, data is written
    start_seconds = 60.0
    stop_seconds = 30.0

    def missing(self) -> Missing | None:
        """Debian's package, and the client of the extra `stack`."""
        if _programs() is None:
            text = "postgres is not installed: apt-get install postgresql"
            return Missing(text, ("postgresql",))
        return modules(["psycopg2"], "stack")

    def version(self) -> str:
        """As the program says."""
        return program_version([_found() / "postgres", "--version"], r"\(PostgreSQL\) (\S+)")

    def prepare(self, ground: Ground) -> None:
        """Make the cluster; a half-made one lies elsewhere and is made again."""
        user, data = _user(), ground.folder / "data"
        if user is not None:
            _check_reachable(ground.folder, user)
        if data.is_dir():
            return
        new, password = ground.folder / "data.new", ground.folder / "password"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(0o700)
        try:
            write_text(password, ground.secret(f"{self.name}-{_USER}"), 0o600)
            for path in (new, password):
                shutil.chown(path, user or os.getuid())
            command = (
                _found() / "initdb",
                "-D",
                new,
                "-U",
                _USER,
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            )
            secured = ("-A", "scram-sha-256", f"--pwfile={password}")
            run_once(ground, [*map(str, command), *secured], user=user)
        finally:
            password.unlink(missing_ok=True)
        new.rename(data)

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The postmaster."""
        settings = {
            "listen_addresses": ground.host,
            "port": str(ground.port(self.name)),
            **_SETTINGS,
        }
        given = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        data = ground.folder / "data"
        command = (str(_found() / "postgres"), "-D", str(data), *given)
        return (Process("server", command, user=_user()),)

    def check(self, ground: Ground) -> None:
        """`SELECT 1` as the superuser."""
        with connected(ground, "postgres", _USER) as cursor:
            cursor.execute("SELECT 1")

    def after_start(self, ground: Ground) -> None:
        """Roles and databases; a password is set again, so that secrets and roles agree."""
        from psycopg2 import sql  # noqa: PLC0415 (an extra)

        for name in DATABASES:
            make_role(ground, name)
        with connected(ground, "postgres", _USER) as cursor:
            for name in DATABASES:
                word = sql.Identifier(name)
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if not cursor.fetchone():
                    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(word, word))

    def environment(self, ground: Ground) -> dict[str, str]:
        """What the house's processes share."""
        address = f"{ground.host}:{ground.port(self.name)}"
        return {
            field_key("state_url"): f"postgresql://movie_mlops@{address}/movie_mlops",
            field_key("state_password"): ground.secret(f"{self.name}-movie_mlops"),
        }


def make_role(ground: Ground, name: str, member_of: str | None = None) -> None:
    """A role that may log in with the secret `postgresql-<name>`; again: sets that password anew.

    Raises:
        EngineUnavailableError: PostgreSQL does not answer.
    """
    from psycopg2 import sql  # noqa: PLC0415 (an extra)

    word = sql.Identifier(name)
    with connected(ground, "postgres", _USER) as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
        verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
        role = sql.SQL("{} ROLE {} LOGIN PASSWORD %s").format(verb, word)
        cursor.execute(role, (ground.secret(f"postgresql-{name}"),))
        if member_of is not None:
            cursor.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(member_of), word))


def database_url(ground: Ground, name: str, scheme: str = "postgresql+psycopg2") -> str:
    """SQLAlchemy's URL of one of DATABASES, password included."""
    address = f"{ground.host}:{ground.port('postgresql')}"
    return f"{scheme}://{name}:{ground.secret(f'postgresql-{name}')}@{address}/{name}"


@contextmanager
def connected(ground: Ground, database: str, user: str) -> Iterator[Any]:
    """A cursor that commits each statement.

    Raises:
        EngineUnavailableError: it does not answer, refuses, or fails.
    """
    import psycopg2  # noqa: PLC0415 (an extra)

    connection = None
    try:
        connection = psycopg2.connect(
            host=ground.host,
            port=ground.port("postgresql"),
            dbname=database,
            user=user,
            password=ground.secret(f"postgresql-{user}"),
            connect_timeout=int(ANSWER_SECONDS),
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    except psycopg2.Error as error:
        message = f"PostgreSQL: {str(error).strip()}"
        raise EngineUnavailableError(message) from error
    finally:
        if connection is not None:
            connection.close()


def _user() -> str | None:
    """Root may not run it; anybody else runs it as themselves."""
    return _USER if os.geteuid() == 0 else None


def _programs() -> Path | None:
    """Where initdb and postgres lie: on PATH, or Debian's newest version."""
    on_path = shutil.which("postgres")
    if on_path and Path(on_path).with_name("initdb").exists():
        return Path(on_path).parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = sorted(found, key=lambda path: (len(path.parts[4]), path.parts[4]))
    return versions[-1].parent if versions else None


def _found() -> Path:
    folder = _programs()
    if folder is None:
        message = "postgres is not installed: apt-get install postgresql"
        raise EngineUnavailableError(message)
    return folder


def _check_reachable(folder: Path, user: str) -> None:
    """Raise ConfigurationError, with the folder that is shut, when the user cannot get there."""
    try:
        group = pwd.getpwnam(user).pw_gid
    except KeyError:
        message = f"root may not run PostgreSQL and there is no user {user}"
        raise ConfigurationError(message) from None
    for path in (*reversed(folder.parents), folder):
        ran = subprocess.run(  # noqa: S603 (whether that user may enter)
            ["/usr/bin/test", "-x", path], user=user, group=group, extra_groups=[], check=False
        )
        if ran.returncode:
            message = (
                f"root may not run PostgreSQL, and its user {user} cannot enter {path}: "
                f"chmod o+x {path}, or choose another home"
            )
            raise ConfigurationError(message)
