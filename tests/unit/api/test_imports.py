"""What the API process loads: none of the engines that belong to the worker."""

import subprocess
import sys

HEAVY = ("mlflow", "feast", "evidently", "torch", "sklearn", "lightgbm", "pandas", "dvc", "scipy")


def test_importing_the_api_loads_no_engine_of_the_worker() -> None:
    code = "import sys, movie_mlops.api.main, movie_mlops.bootstrap; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "movie_mlops" in loaded
    assert loaded.isdisjoint(HEAVY)
