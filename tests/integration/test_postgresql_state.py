"""A home whose exposures, tests and loop's memory lie in PostgreSQL: all parts find them there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.houses import furnish, movies
from tests.postgres import Postgres

from movie_mlops.bootstrap import Services, build_services, open_api_services, open_exposures
from movie_mlops.bootstrap.rights import answer_tracing, user_erasure
from movie_mlops.data.lake import Lake
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import InteractionType, UserId
from movie_mlops.domain.requests import new_request_id
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving.ab_report import encode_definition
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.pipelines.drift_answers import AnswerWindows
from movie_mlops.settings import Settings

pytestmark = pytest.mark.engine("postgresql")
TEST = Experiment("t", (Arm("a"), Arm("b")))


@pytest.fixture
def settings(postgres: Postgres, tmp_path: Path) -> Settings:
    server = postgres.database()
    made = Settings(
        home=tmp_path,
        state_url=f"postgresql://{server.user}@{server.host}:{server.port}/{server.database}",
        state_password=server.password,
    )
    furnish(made)
    folder = tmp_path / "data/processed"
    folder.mkdir(parents=True)
    movies().write_parquet(folder / "movies.parquet")
    return made


def show(settings: Settings, *users: str) -> list[str]:
    """Lists of a running API of this home."""
    ids, api = [], open_api_services(settings)
    api.start()
    try:
        api.audience.tests.register("t", encode_definition(TEST))
        for user in users:
            ids.append(new_request_id())
            made = api.recommender.recommend(UserId(user), 5)
            api.audience.show(ids[-1], made, None, 5)
    finally:
        api.close()
    return ids


def test_everything_that_asks_finds_what_was_shown_and_no_file_is_made(settings: Settings) -> None:
    ids = show(settings, "1", "2")
    services = build_services(settings)
    store = open_exposures(settings, "look")
    try:
        first = next(iter(store.bodies(ids[0], None, 1.0)))
        assert ids[1].encode() in first
        shown = ExposureLog(store).find(ids[0])
        assert shown is not None
        film = shown.shown.items[0]
        act = UserInteractionEvent(
            "1", film, InteractionType.CLICK, datetime.now(UTC), request_id=ids[0]
        )
        services.log.publish(USER_EVENTS, [encode(act)])
        [quality] = services.online_quality()
        assert (quality.exposures, quality.clicks, quality.viewers) == (2, 1, 2)
        with answer_tracing(services) as tracing:
            found = tracing.exposures.find(ids[1])
            assert found is not None
            assert found.shown.user_id == "2"
        assert services.loop_store.stop("m", "why", datetime.now(UTC))
        assert build_services(settings).loop_store.stopped() == {"m": "why"}
    finally:
        store.close()
        services.close()
    assert list((settings.home / "var").glob("exposures*")) == []
    assert not (settings.home / "var" / "loop.db").exists()


def test_drift_reads_answers_from_it(settings: Settings) -> None:
    store = open_exposures(settings, "api")
    log = ExposureLog(store)
    windows = AnswerWindows(
        lambda: open_exposures(settings, "drift"), settings.home / "drift", min_answers=50
    )
    lake = Lake(settings.lake_folder)
    for path in ("personal", "popular"):
        for number in range(60):
            shown = Shown("list", str(number % 7), path, MOVIE_RECOMMENDER, "1", "s", items=(1, 2))
            log.note(new_request_id(), shown)
        log.flush()
        found = windows.frames("1", lake, timedelta(hours=1), datetime.now(UTC))
    store.close()
    [frames] = found
    assert set(frames.reference["path"].drop_nulls()) == {"personal"}
    assert set(frames.current["path"].drop_nulls()) == {"popular"}


def test_80_an_erased_viewer_is_in_no_row(settings: Settings, postgres: Postgres) -> None:
    """Fault 80."""
    gone, stays = "viewer-gone", "viewer-stays"
    show(settings, gone, stays)
    store = open_exposures(settings, "look")
    with store.changing() as connection:
        connection.executemany(
            "INSERT INTO subjects (experiment, subject, arm, first_ms) VALUES (?, ?, ?, 1)",
            [("t", TEST.subject(user), "a") for user in (gone, stays)],
        )
    services: Services = build_services(settings)
    try:
        receipt, _ = user_erasure(services).erase(gone, lambda _: None)
    finally:
        services.close()
    assert (receipt.removed["exposures"], receipt.removed["test subjects"]) == (1, 1)
    assert any("VACUUM FULL" in each for each in receipt.remains)
    assert store.numbers_with(gone) == []
    assert len(store.numbers_with(stays)) == 1
    assert store.rows("SELECT subject FROM subjects") == [(TEST.subject(stays),)]
    store.close()
