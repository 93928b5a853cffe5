"""How long after an event is published another process's lists know it, on every event log.

One process publishes likes of many viewers at a steady rate; another follows the log as an API
replica does. Measured from just before `publish` to just after the history has the film, for each
event; the first second is left out. A broker is started from KAFKA_HOME, or left out without one.

python benchmarks/event_lag.py [--events 4000] [--rate 200]
"""

import argparse
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.kafka_broker import Broker, find_kafka  # noqa: E402 (its folder was added above)

from movie_mlops.domain.interactions import Interaction, InteractionType  # noqa: E402
from movie_mlops.events import open_event_log  # noqa: E402
from movie_mlops.events.base import Position  # noqa: E402
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode  # noqa: E402
from movie_mlops.models.algorithms import load  # noqa: E402
from movie_mlops.models.serving.follower import HistoriesFollower  # noqa: E402
from movie_mlops.models.serving.histories import Histories  # noqa: E402
from movie_mlops.models.serving.model_loader import ModelLoader  # noqa: E402

BOUND, VIEWERS = 2_000_000_000, 500


class Watched(Histories):
    """Notes when each event was applied."""

    def __init__(self) -> None:
        super().__init__(200)
        self.seconds: list[float] = []

    def apply(self, interaction: Interaction, position: Position | None = None) -> None:
        """As before, and the time since the event."""
        super().apply(interaction, position)
        self.seconds.append(time.time() - interaction.timestamp.timestamp())


def publish(url: str, home: Path, count: int, rate: float) -> None:
    """The other process: publish at a steady rate and print how long each took."""
    log = open_event_log(url, home, BOUND)
    began, took = time.perf_counter(), []
    for number in range(count):
        time.sleep(max(began + number / rate - time.perf_counter(), 0))
        before = time.perf_counter()
        user, film = str(number % VIEWERS), 1 + number
        like = UserInteractionEvent(user, film, InteractionType.LIKE, datetime.now(UTC))
        log.publish(USER_EVENTS, [encode(like)])
        took.append(time.perf_counter() - before)
    log.close()
    print(*(f"{1000 * value:.2f}" for value in np.percentile(took, (50, 99))))


def measure(url: str, count: int, rate: float) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        log, histories = open_event_log(url, home, BOUND), Watched()
        follower = HistoriesFollower(histories, log, ModelLoader(home, load), home, "api-0")
        follower.start()
        arguments = ["--publish", url, folder, "--events", str(count), "--rate", str(rate)]
        ran = subprocess.run(
            [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
        )
        deadline = time.monotonic() + 30
        while len(histories.seconds) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        follower.stop()
        log.close()
    if len(histories.seconds) != count:
        sys.exit(f"{url}: {len(histories.seconds)} of {count} events arrived")
    lags = 1000 * np.array(histories.seconds[int(rate) :])
    p50, p95, p99 = np.percentile(lags, (50, 95, 99))
    p50_publish, p99_publish = ran.stdout.split()
    return (
        f"| {url.partition(':')[0]} | {len(lags)} | {p50:.0f} | {p95:.0f} | {p99:.0f} | "
        f"{lags.max():.0f} | {p50_publish} | {p99_publish} |"
    )


@contextmanager
def urls() -> Iterator[list[str]]:
    """The logs to measure."""
    home, missing = find_kafka()
    if home is None:
        print(missing, file=sys.stderr)
        yield ["sqlite:events.db"]
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(home, Path(folder))
        broker.start()
        try:
            yield ["sqlite:events.db", f"kafka://{broker.servers}/{secrets.token_hex(3)}."]
        finally:
            broker.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--publish", nargs=2, metavar=("URL", "HOME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish[0], Path(options.publish[1]), options.events, options.rate)
        return
    print("| log | events | p50 ms | p95 ms | p99 ms | max ms | publish p50 ms | publish p99 ms |")
    print("|---|---|---|---|---|---|---|---|")
    with urls() as found:
        for url in found:
            print(measure(url, options.events, options.rate), flush=True)


if __name__ == "__main__":
    main()
