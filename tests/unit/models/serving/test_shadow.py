"""The shadow: what goes wrong there is counted and stays there."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.houses import furnish, movies

from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.recommendations import RecommendationList
from movie_mlops.models.algorithms import load
from movie_mlops.models.serving import shadow as module
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.shadow import Shadow
from movie_mlops.models.serving.trial import Trial
from movie_mlops.monitoring.metrics import TALLY
from movie_mlops.settings import Settings

SHOWN = Shown("list", "1", "personal", "movie_recommender", "1", "s", items=(1, 2))


class Stuck(RecommendationService):
    """A challenger that hangs, then fails."""

    release = threading.Event()

    def challenge(self, user_id: UserId, k: int) -> RecommendationList | None:
        self.release.wait(30)
        message = "no"
        raise ValueError(message)


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Shadow]:
    settings = Settings(home=tmp_path)
    furnish(settings)
    loader, histories = ModelLoader(tmp_path / "var/serving", load), Histories(50)
    recommender = Stuck(loader, histories, Catalogue(movies))
    store = open_exposure_store(tmp_path, "one")
    trial = Trial(None, loader, histories)
    made = Shadow(recommender, trial, ExposureLog(store))
    made.share = 1.0
    yield made
    Stuck.release.set()
    made.stop()
    store.close()


def test_a_hanging_challenger_is_waited_for_by_nobody(stuck: Shadow) -> None:
    TALLY.flush()
    failed, dropped = (module._OUTCOMES[name]._value.get() for name in ("failed", "dropped"))
    stuck.start()
    start = time.process_time()
    for number in range(1_000):
        stuck.consider(f"r{number}", SHOWN, 2)
    assert time.process_time() - start < 1
    TALLY.flush()
    left = module._OUTCOMES["dropped"]._value.get() - dropped
    assert 1_000 - module._MOST_WAITING - 1 <= left <= 1_000 - module._MOST_WAITING
    stuck._recommender.release.set()  # type: ignore[attr-defined]
    give_up = time.monotonic() + 20
    while stuck._jobs.qsize() and time.monotonic() < give_up:
        time.sleep(0.01)
    stuck.stop()
    assert module._OUTCOMES["failed"]._value.get() - failed >= module._MOST_WAITING - 1


def test_the_share_is_kept(stuck: Shadow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 10**6)
    stuck.share = 0.25
    for number in range(4_000):
        stuck.consider(str(number), SHOWN, 2)
    assert stuck._jobs.qsize() / 4_000 == pytest.approx(0.25, abs=0.04)
