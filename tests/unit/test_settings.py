from pathlib import Path

import pytest

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.settings import Settings, child_environment, env_template, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("MOVIE_MLOPS_HOME", "MOVIE_MLOPS_PORT", "TMDB_API_KEY", "MOVIE_MLOPS_SEED"):
        monkeypatch.delenv(key, raising=False)


def test_priority_is_arguments_environment_home_env_then_local_env(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / ".env").write_text(
        f"MOVIE_MLOPS_HOME={home}\nMOVIE_MLOPS_PORT=1\nMOVIE_MLOPS_SEED=1\nTMDB_API_KEY=one\n"
    )
    (home / ".env").write_text("MOVIE_MLOPS_PORT=2\nMOVIE_MLOPS_SEED=2\n")
    monkeypatch.setenv("MOVIE_MLOPS_PORT", "3")
    settings = load_settings(sample_films=77)
    assert (settings.home, settings.port, settings.seed) == (home, 3, 2)
    assert settings.sample_films == 77
    assert settings.tmdb_api_key is not None
    assert settings.tmdb_api_key.get_secret_value() == "one"
    assert load_settings(port=4).port == 4


def test_unknown_keys_of_ours_are_refused_others_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOMEBODY_ELSES", "x")
    load_settings()
    (tmp_path / ".env").write_text("MOVIE_MLOPS_PROT=8000\n")
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_PROT"):
        load_settings()
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("MOVIE_MLOPS_PROT", "8000")
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_PROT"):
        load_settings()


def test_a_value_out_of_range_names_its_key() -> None:
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_PORT"):
        load_settings(port=70_000)


def test_binding_beyond_loopback_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_ADMIN_API_KEY"):
        load_settings(host="0.0.0.0")  # noqa: S104 (what is refused)
    assert load_settings(host="0.0.0.0", admin_api_key="k").port == 8000  # noqa: S104


def test_lists_come_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIE_MLOPS_CORS_ORIGINS", '["https://a.example", "https://b.example"]')
    assert load_settings().cors_origins == ("https://a.example", "https://b.example")


def test_secrets_do_not_show() -> None:
    settings = Settings(admin_api_key="very-secret", tmdb_api_key="also-secret")  # type: ignore[arg-type]
    assert "secret" not in repr(settings).replace("SecretStr", "")


def test_a_child_sees_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parent = load_settings(
        tmp_path / "elsewhere", port=8123, admin_api_key="k", cors_origins=("https://a.example",)
    )
    for key, value in child_environment(parent).items():
        monkeypatch.setenv(key, value)
    assert load_settings() == parent


def test_urls_resolve_against_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.path(settings.events_url) == tmp_path / "var/events.db"
    assert settings.path("file:/absolute/place") == Path("/absolute/place")


def test_the_template_lists_every_setting_once_and_no_secret() -> None:
    lines = [line for line in env_template().splitlines() if "=" in line]
    assert len(lines) == len(Settings.model_fields)
    assert len({line.split("=")[0] for line in lines}) == len(lines)
    assert "#MOVIE_MLOPS_ADMIN_API_KEY=" in lines


def test_the_environment_chooses_a_file_of_the_package_between_env_file_and_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().events_url == "sqlite:var/events.db"
    (tmp_path / ".env").write_text("MOVIE_MLOPS_RUNNER_URL=inprocess:\n")
    monkeypatch.setenv("MOVIE_MLOPS_ENV", "staging")
    staging = load_settings(events_url="kafka://elsewhere:9092")
    assert staging.events_url == "kafka://elsewhere:9092"  # an argument over the file
    assert staging.runner_url == "inprocess:"  # .env over the file
    assert staging.tracking_url == "http://127.0.0.1:5000"  # the file over the default
    assert staging.seed == 42
    for env in ("development", "production"):  # every file holds settings that there are
        assert load_settings(env=env).env == env
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_ENV"):
        load_settings(env="../../secrets")
    child = child_environment(staging)
    assert (child["MOVIE_MLOPS_ENV"], child["MOVIE_MLOPS_TRACKING_URL"]) == (
        "staging",
        "http://127.0.0.1:5000",
    )
