"""What the API process loads: none of the engines that belong to the worker."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("mlflow", "feast", "evidently", "torch", "sklearn", "lightgbm", "pandas", "dvc", "scipy"),
    *("duckdb", "pyarrow", "pyspark", "matplotlib", "httpx", "catboost", "optuna"),
}
"""Libraries: each costs a start up to seconds and a process up to hundreds of megabytes."""
OF_OTHERS = (
    *("automation", "features", "orchestration", "pipelines", "guide", "stack"),
    *("bootstrap.services", "bootstrap.home", "bootstrap.recipes", "bootstrap.rights"),
    *("data.crawlers", "data.versions", "data.engine_duckdb", "data.engine_spark"),
    *("models.training", "models.registry", "monitoring.drift"),
)
"""Our own modules of the worker, of pipelines and of the command line."""


def loaded_by(code: str) -> set[str]:
    """The modules that a process has which ran this, and the packages that they lie in."""
    code = f"{code}\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ran.stdout.split()
    return {name[:end] for name in names for end in (name.find("."), len(name)) if end > 0}


@pytest.fixture(scope="module")
def of_a_started_api(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a process holds that is ready to serve; its home is empty."""
    home = Path(tmp_path_factory.mktemp("home"))
    return loaded_by(f"""
from pathlib import Path
from movie_mlops.cli.servers import api
from movie_mlops.api.main import serve
from movie_mlops.bootstrap import open_api_services, page_folder
from movie_mlops.settings import load_settings
services = open_api_services(load_settings(Path({str(home)!r})))
services.start()
services.close()
""")


def test_an_api_process_loads_no_engine_of_the_worker(of_a_started_api: set[str]) -> None:
    assert "movie_mlops" in of_a_started_api
    assert of_a_started_api.isdisjoint(HEAVY)


def test_an_api_process_loads_nothing_that_trains_or_automates(of_a_started_api: set[str]) -> None:
    assert "movie_mlops.bootstrap.serving" in of_a_started_api
    assert of_a_started_api.isdisjoint(f"movie_mlops.{name}" for name in OF_OTHERS)


def test_each_name_of_bootstrap_is_there_and_loads_its_own_module_only() -> None:
    loaded = loaded_by("from movie_mlops.bootstrap import page_folder; page_folder()")
    assert "movie_mlops.bootstrap.places" in loaded
    assert loaded.isdisjoint({"movie_mlops.bootstrap.serving", "movie_mlops.bootstrap.services"})
    loaded = loaded_by("from movie_mlops.bootstrap import *")
    assert {"movie_mlops.bootstrap.serving", "movie_mlops.bootstrap.services"} <= loaded
    with pytest.raises(ImportError, match="nothing_like_it"):
        from movie_mlops.bootstrap import nothing_like_it  # type: ignore[attr-defined]  # noqa: F401
