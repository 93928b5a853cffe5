"""Drift detection over a whole home: events, comparison, run, event, commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from tests.houses import training

from movie_mlops.bootstrap import Services, build_services, open_exposures
from movie_mlops.cli.main import cli
from movie_mlops.data.processors.population import draw_population
from movie_mlops.data.processors.tastes import simulate_interactions
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.domain.requests import new_request_id
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    USER_EVENTS,
    ModelDriftEvent,
    UserInteractionEvent,
    decode,
    encode,
)
from movie_mlops.models.algorithms import create
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.monitoring.metrics import FiguresCollector
from movie_mlops.pipelines import drift_detection
from movie_mlops.settings import Settings

PEOPLE, WATCHES = 500, 40
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LEARNT_UNTIL = MIDNIGHT - timedelta(days=60)


def settings_of(home: Path) -> Settings:
    return Settings(
        home=home, sample_films=200, sample_people=PEOPLE, sample_watches_per_person=WATCHES
    )


@contextmanager
def opened(home: Path) -> Iterator[Services]:
    services = build_services(settings_of(home))
    try:
        yield services
    finally:
        services.close()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose champion learnt all that was done until two months ago."""
    home = tmp_path_factory.mktemp("home")
    with opened(home) as services:
        services.runner.execute(services.pipeline("data_collection"), {}, lambda *_: None)
        rows = services.lake.read("interactions")
        rows = rows.filter(pl.col("timestamp") <= LEARNT_UNTIL)
        rows.write_parquet(services.lake.path("interactions"))
        tag = services.snapshots.current_or_new()
        model = create("popularity").fit(training(rows, services.lake.read("movies")))
        arrays, card = model.artifact()
        path = f"{MOVIE_RECOMMENDER}/1"
        sha256 = save_bundle(services.serving / path, arrays, card | {"log_positions": {"0": 0}})
        entry = Entry("1", path, sha256, tag, "popularity")
        point(services.serving, MOVIE_RECOMMENDER, Alias.CHAMPION, entry)
    return home


@pytest.fixture
def home(learnt: Path, tmp_path: Path) -> Path:
    """A copy of that home."""
    import shutil

    return Path(shutil.copytree(learnt, tmp_path / "home"))


def live(services: Services, shift: float) -> None:
    """A week of the same people's acts, after a fashion of this strength, as events."""
    films = services.lake.read("movies")
    people = draw_population(films, PEOPLE, services.settings.seed)
    acts = simulate_interactions(people.shifted(shift, "Drama"), MIDNIGHT, WATCHES)
    since = pl.col("timestamp").is_between(LEARNT_UNTIL, LEARNT_UNTIL + timedelta(days=7))
    events = [
        encode(
            UserInteractionEvent(
                row["user_id"], row["movie_id"], InteractionType(row["interaction_type"]),
                row["timestamp"], rating=row["rating"],
            )
        )
        for row in acts.filter(since).iter_rows(named=True)
    ]  # fmt: skip
    for begin in range(0, len(events), 500):
        services.log.publish(USER_EVENTS, events[begin : begin + 500])
    writer = services.lake_writer()
    while writer.run_once():
        pass


def run(services: Services) -> dict[str, object]:
    pipeline = services.pipeline("drift_detection")
    return services.runner.execute(pipeline, {}, lambda *_: None).output()


def alerts(services: Services) -> list[tuple[str, ModelDriftEvent]]:
    records = services.log.poll("reader", (DRIFT_ALERTS,), 10)
    return [(record.event_id, decode(record)) for record in records]


def scraped(home: Path) -> dict[tuple[str, str], float]:
    return {
        (family.name, sample.labels.popitem()[1]): sample.value
        for family in FiguresCollector(home / "var" / "figures").collect()
        for sample in family.samples
    }


@pytest.fixture
def without_evidently(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra `reports` is not installed: the page alone takes ten seconds."""
    monkeypatch.setattr(drift_detection, "find_spec", lambda name: None)


@pytest.mark.usefixtures("without_evidently")
def test_a_shift_is_reported_published_once_and_shown(home: Path) -> None:
    with opened(home) as services:
        live(services, shift=3.0)
        output = run(services)
        found = output["drift"]
        assert isinstance(found, dict)
        assert (found["state"], found["model_version"]) == ("drift", "1")
        assert "genre" in found["drifted"]
        assert found["score"] > found["threshold"]
        [(event_id, event)] = alerts(services)
        assert event_id == output["drift_event_id"]
        assert (event.model_name, event.model_version) == (MOVIE_RECOMMENDER, "1")
        assert (event.drift_score, event.threshold) == (found["score"], found["threshold"])
        assert event.timestamp == datetime.fromisoformat(found["window_end"])
        assert {"genre_psi", "genre_js", "popularity_ks", "score"} <= event.metrics.keys()
        assert scraped(home)["drift_score", MOVIE_RECOMMENDER] == found["score"]
        steps = services.pipeline("drift_detection").steps
        # nothing has happened since: the same event, a duplicate
        again = steps["publish"](steps["compare"]({}, lambda *_: None), lambda *_: None)
        assert again["drift_event_id"] == event_id
        assert alerts(services) == []
        client = services.registry._client
        logged = client.get_run(str(output["drift_run_id"]))
        assert logged.data.params["model_version"] == "1"
        assert logged.data.metrics["score"] == pytest.approx(found["score"])
        files = [each.path for each in client.list_artifacts(logged.info.run_id)]
        assert "report.json" in files
        assert "HTML" in str(services.runner.runs()[0].steps[1].output["note"])


def test_the_same_people_going_on_as_before_are_no_drift(home: Path) -> None:
    with opened(home) as services:
        live(services, shift=0.0)
        steps = services.pipeline("drift_detection").steps
        output = steps["compare"]({}, lambda *_: None)
        found = output["drift"]
        assert found["state"] == "no drift"
        assert found["p_value"] > 0.01
        assert "no event" in steps["publish"](output, lambda *_: None)["note"]
        assert alerts(services) == []
        assert scraped(home)["drift_score", MOVIE_RECOMMENDER] < found["threshold"]


@pytest.mark.usefixtures("without_evidently")
def test_without_new_acts_or_without_a_champion_nothing_alarms(home: Path, tmp_path: Path) -> None:
    with opened(home) as services:
        steps = services.pipeline("drift_detection").steps
        output = steps["compare"]({}, lambda *_: None)
        assert output["drift"]["state"] == "too little data"
        assert "no event" in steps["publish"](output, lambda *_: None)["note"]
        assert alerts(services) == []
    with opened(tmp_path / "empty") as services:
        output = run(services)
        assert output["drift"] == {}
        assert services.lake.root.exists() is False


def test_answers_are_compared_with_a_versions_first_ones(home: Path) -> None:
    """The path of lists moves from personal to popular: what viewers get has changed."""
    with opened(home) as services:
        live(services, shift=0.0)
        store = open_exposures(services.settings, "one")
        log = ExposureLog(store)
        films = services.lake.read("movies")["movie_id"].to_list()
        for path in ("personal", "popular"):
            for number in range(600):
                user = f"{path}-{number % 120}"
                shown = Shown(
                    "list", user, path, MOVIE_RECOMMENDER, "1", "s",
                    items=tuple(films[number % 50 : number % 50 + 3]),
                )  # fmt: skip
                log.note(new_request_id(), shown)
            log.flush()
            found = services.drift_detection().compare_now(datetime.now(UTC), lambda *_: None)
        log.close()
        store.close()
        assert found is not None
        assert found.report.drifted
        assert [each.name for each in found.report.features if each.drifted] == ["path"]
        kept = pl.read_parquet(home / "var" / "drift" / "first-lists-1.parquet")
        assert kept.schema["who"] == pl.Int64  # numbers, no viewer's id


@pytest.mark.slow
def test_evidentlys_page_is_attached_to_the_run(home: Path) -> None:
    pytest.importorskip("evidently", reason="the extra `reports` is not installed")
    with opened(home) as services:
        live(services, shift=3.0)
        output = run(services)
        client = services.registry._client
        run_id = str(output["drift_run_id"])
        [page] = [each for each in client.list_artifacts(run_id, "plots") if "html" in each.path]
        text = Path(client.download_artifacts(run_id, page.path, str(home))).read_text()
        assert len(text) > 1_000_000
        assert "genre" in text


def test_the_commands_print_what_they_found(home: Path) -> None:
    with opened(home) as services:
        live(services, shift=3.0)
        films = services.lake.read("movies")["movie_id"].to_list()
        store = open_exposures(services.settings, "one")
        log = ExposureLog(store)
        request_id = new_request_id()
        items = tuple(films[:3])
        log.note(
            request_id, Shown("list", "1", "personal", MOVIE_RECOMMENDER, "1", "s", items=items)
        )
        log.close()
        store.close()
        event = UserInteractionEvent(
            "1", films[0], InteractionType.CLICK, datetime.now(UTC), request_id=request_id
        )
        services.log.publish(USER_EVENTS, [encode(event)])
    (home / ".env").write_text(f"MOVIE_MLOPS_SAMPLE_PEOPLE={PEOPLE}\n")
    told = CliRunner().invoke(cli, ["drift", "--home", str(home)])
    assert told.exit_code == 0, told.output
    assert "genre" in told.stdout
    assert "drift in" in told.stdout
    told = CliRunner().invoke(cli, ["drift", "--home", str(home), "--json"])
    assert json.loads(told.stdout.splitlines()[-1])["state"] == "drift"
    told = CliRunner().invoke(cli, ["quality", "--home", str(home)])
    assert told.exit_code == 0, told.output
    assert "clicked" in told.stdout
    told = CliRunner().invoke(cli, ["quality", "--home", str(home), "--json"])
    [found] = json.loads(told.stdout)
    assert (found["model_version"], found["exposures"], found["clicks"]) == ("1", 1, 1)
    assert scraped(home)["online_exposures", "1"] == 1.0
    assert scraped(home)["recommendation_coverage", "1"] == pytest.approx(3 / len(films))


def test_commands_on_a_fresh_home_say_that_there_is_nothing(tmp_path: Path) -> None:
    for command, text in (("drift", "no champion"), ("quality", "no list")):
        told = CliRunner().invoke(cli, [command, "--home", str(tmp_path)])
        assert told.exit_code == 0, told.output
        assert text in told.stdout


def test_a_feature_that_there_is_not_is_a_wrong_setting(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path, drift_features=("genre", "weather")))
    with pytest.raises(ConfigurationError, match="weather"):
        services.drift_detection()
