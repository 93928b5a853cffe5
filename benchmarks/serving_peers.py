"""POST of one film's facts, answered with a rating: ours beside five ways of serving a model.

The peers serve the guide's forest (100 trees, 3 columns), then a constant (like for like: what
the server alone costs). Ours serves the rating champion with interval: films that it was not
asked about before, then one and the same film, whose rating it remembers.
BentoML, LitServe and KServe run in environments of their own under --environments, made with `uv`;
MLflow and the guide's way (FastAPI, pandas, scikit-learn) in ours. One process each, 16
connections, a spin probe beside each row: below 1.8 free cores it is marked invalid.

    python benchmarks/serving_peers.py --environments ~/.cache/peers [--docs docs/benchmarks]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from serving import (
    VALID_CORES,
    Row,
    System,
    api,
    choose,
    cpu_of,
    film,
    free_cores,
    furnish,
    load,
    measure,
    new_films,
    post,
    serving,
    wait_for,
)

HERE = Path(__file__).parent / "peers"
PINS = {"bentoml": "bentoml==1.4.39", "litserve": "litserve==0.2.19", "kserve": "kserve==0.21.0"}
ROWS = [[1999.0, 100.0, 5000.0]]


@dataclass(frozen=True)
class Peer:
    """How one is started on a port, when it is ready, and what it is asked."""

    name: str
    command: Callable[[Path, int], list[str]]
    ready: str
    request: str


def _bin(environment: Path, name: str, tool: str) -> str:
    return str(environment / name / "bin" / tool)


PEERS = (
    Peer(
        "guide's way",
        lambda _, port: [sys.executable, "guide.py", str(port)],
        "/docs",
        post("/predict/movie", {"startYear": 1999, "runtimeMinutes": 100, "numVotes": 5000}),
    ),
    Peer(
        "mlflow models serve",
        lambda folder, port: [
            str(Path(sys.executable).with_name("mlflow")),
            "models",
            "serve",
            "--model-uri",
            str(folder / "mlflow-model"),
            "--env-manager",
            "local",
            "--port",
            str(port),
            "--workers",
            "1",
        ],
        "/ping",
        post("/invocations", {"inputs": ROWS}),
    ),
    Peer(
        "BentoML",
        lambda folder, port: [
            _bin(folder, "bentoml", "bentoml"),
            "serve",
            "bentoml_service:Forest",
            "--port",
            str(port),
        ],
        "/readyz",
        post("/predict", {"rows": ROWS}),
    ),
    Peer(
        "LitServe",
        lambda folder, port: [_bin(folder, "litserve", "python"), "litserve_server.py", str(port)],
        "/health",
        post("/predict", {"rows": ROWS}),
    ),
    Peer(
        "KServe's Python server",
        lambda folder, port: [_bin(folder, "kserve", "python"), "kserve_server.py", str(port)],
        "/v1/models/m",
        post("/v1/models/m:predict", {"instances": ROWS}),
    ),
)


def prepare(folder: Path) -> None:
    """Environments and MLflow's model folder, made where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    uv = str(Path(sys.executable).with_name("uv"))
    for name, pin in PINS.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([uv, "venv", "-q", "-p", "3.11", str(folder / name)], check=True)
            install = [uv, "pip", "install", "-q", "--python", str(python), pin, "scikit-learn"]
            subprocess.run(install, check=True)
    if not (folder / "mlflow-model").exists():
        import mlflow

        sys.path.insert(0, str(HERE))  # MLflow runs the model's file once to save it
        mlflow.pyfunc.save_model(
            folder / "mlflow-model", python_model=str(HERE / "mlflow_model.py"),
            code_paths=[str(HERE / "forest.py")], pip_requirements=[],
        )  # fmt: skip


@contextmanager
def running(peer: Peer, folder: Path, predictor: str) -> Iterator[tuple[int, list[psutil.Process]]]:
    """Port and processes of a started peer; its whole process group ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    env = os.environ | quiet | {"PREDICTOR": predictor, "PYTHONPATH": str(HERE)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # MLflow calls uvicorn by name
    child = subprocess.Popen(
        peer.command(folder, port), cwd=HERE, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}{peer.ready}", [child])
        parent = psutil.Process(child.pid)
        yield port, [parent, *parent.children(recursive=True)]
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def measure_peer(peer: Peer, folder: Path, predictor: str, seconds: float) -> dict[str, Any]:
    with running(peer, folder, predictor) as (port, processes):
        load(port, [peer.request], 16, 1.0)
        before, cpu = free_cores(), cpu_of(processes)
        found = load(port, [peer.request], 16, seconds)
        found["cpu_us"] = 1e6 * (cpu_of(processes) - cpu) / max(found["requests"], 1)
        found["cores"] = min(before, free_cores())
        found["mb"] = sum(each.memory_info().rss for each in processes) / 2**20
    return found | {"name": peer.name, "predictor": predictor}


def measure_ours(
    home: Path, requests: Callable[[], list[str]], predictor: str, seconds: float
) -> dict[str, Any]:
    row = Row("movie-mlops", api(home), requests)
    system: System = row.system
    with serving(system) as (port, processes, _):
        load(port, film(), 16, 1.0)
        found = measure(row, port, processes, seconds)
    return found | {"predictor": predictor}


def page(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: the rate, ours beside it as a multiple, latency, CPU, memory."""
    ours = {row["predictor"]: row["per_second"] for row in rows if row["name"] == "movie-mlops"}
    head = (
        "| served by | model | req/s | ours is | p50 ms | p95 ms | p99 ms | CPU µs | MB | cores |"
    )
    lines = [head, "|---" * 10 + "|"]
    for row in rows:
        valid = "" if row["cores"] >= VALID_CORES else " (invalid)"
        lines.append(
            f"| {row['name']} | {row['predictor']} | {row['per_second']:,.0f} "
            f"| {ours[row['predictor']] / row['per_second']:.1f} × | {row['p50_ms']:.2f} "
            f"| {row['p95_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:,.0f} "
            f"| {row['mb']:,.0f} | {row['cores']:.2f}{valid} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, predictor in zip(figure.subplots(1, 2), ("forest", "constant"), strict=True):
        chosen = [row for row in rows if row["predictor"] == predictor]
        axis.barh([row["name"] for row in chosen], [row["per_second"] for row in chosen])
        axis.set(title=f"model: {predictor}", xlabel="requests per second", xscale="log")
        axis.invert_yaxis()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folder = args.environments.expanduser().absolute()
    prepare(folder)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        furnish(home, 1_000, 1_000)
        choose(home, "movie_predictor", "boosted", "boosted")
        for predictor, requests in (("forest", new_films), ("constant", film)):
            rows.append(measure_ours(home, requests, predictor, args.seconds))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            for peer in PEERS:
                rows.append(measure_peer(peer, folder, predictor, args.seconds))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    text = page(rows)
    print(text)
    if args.docs:
        args.docs.mkdir(parents=True, exist_ok=True)
        draw(rows, args.docs / "serving-peers.png")
        about = (__doc__ or "").partition("    python")[0].strip()
        head = (
            f"# Serving a rating, beside others\n\n{about}\n\n{args.seconds:.0f} s a row, one run."
        )
        picture = "![requests per second](serving-peers.png)"
        (args.docs / "serving-peers.md").write_text(f"{head}\n\n{text}\n\n{picture}\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
