"""Where an answer came from, and a model version built again from its snapshot."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from movie_mlops.bootstrap import Services, build_services, open_api_services
from movie_mlops.bootstrap.rights import rebuilding, user_erasure
from movie_mlops.cli.main import cli
from movie_mlops.domain.errors import ModelVersionNotFoundError, TraceNotFoundError
from movie_mlops.domain.interactions import InteractionType, UserId
from movie_mlops.domain.requests import new_request_id
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving.predictor import MovieFacts
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.training import provenance
from movie_mlops.settings import load_settings

SETTINGS = """\
MOVIE_MLOPS_SAMPLE_FILMS=80
MOVIE_MLOPS_SAMPLE_PEOPLE=40
MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON=15
MOVIE_MLOPS_PROMOTION_SAMPLES=100
MOVIE_MLOPS_CANDIDATE_ALGORITHMS=["sequence_linear"]
"""


@contextmanager
def opened(home: Path) -> Iterator[Services]:
    with closing(build_services(load_settings(home))) as services:
        yield services


@contextmanager
def api_of(home: Path) -> Iterator[ApiServices]:
    services = open_api_services(load_settings(home))
    services.start()
    try:
        yield services
    finally:
        services.close()


def execute(services: Services, *names: str) -> None:
    for name in names:
        services.runner.execute(services.pipeline(name), {}, lambda *_: None)


def like(services: Services, user: str, *films: int) -> None:
    services.log.publish(
        USER_EVENTS,
        [
            encode(UserInteractionEvent(user, film, InteractionType.LIKE, datetime.now(UTC)))
            for film in films
        ],
    )


def write_lake(services: Services) -> None:
    writer = services.lake_writer()
    while writer.run_once():
        pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / ".env").write_text(SETTINGS)
    with opened(home) as services:
        execute(services, "data_collection")
        like(services, "viewer", 1, 2, 3)
        write_lake(services)
        execute(services, "training", "rating_training", "rollout")
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)])


def rebuilt(home: Path, model: str, version: str = "1") -> tuple[int, dict[str, Any]]:
    done = run(home, "models", "rebuild", model, version, "--json")
    assert done.exit_code in (0, 1), done.exception
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("model", [MOVIE_RECOMMENDER, MOVIE_PREDICTOR])
def test_a_version_built_again_has_the_same_bytes(trained: Path, model: str) -> None:
    code, found = rebuilt(trained, model)
    assert (code, found["differences"], found["erased_at"]) == (0, [], "")
    assert found["arrays"] > 0
    assert found["code_then"] == found["code_now"] == provenance.code_version()
    assert "the same bytes" in run(trained, "models", "rebuild", model, "1").stdout


def test_an_old_version_is_built_again_after_more_events_and_an_erasure_is_named(
    home: Path,
) -> None:
    with opened(home) as services:
        like(services, "viewer", 4, 5, 6)
        like(services, "somebody", 7, 8, 9)
        write_lake(services)
        execute(services, "training")
    for version in ("1", "2"):
        assert rebuilt(home, MOVIE_RECOMMENDER, version)[1]["differences"] == []
    with opened(home) as services:
        user_erasure(services).erase("somebody", str)  # who is in the second snapshot only
    assert rebuilt(home, MOVIE_RECOMMENDER, "1") == rebuilt(home, MOVIE_RECOMMENDER, "1")
    assert rebuilt(home, MOVIE_RECOMMENDER, "1")[1]["erased_at"] == ""
    code, found = rebuilt(home, MOVIE_RECOMMENDER, "2")
    assert code == 0
    assert found["differences"]
    assert found["erased_at"]
    text = run(home, "models", "rebuild", MOVIE_RECOMMENDER, "2").stdout
    assert f"snapshot {found['snapshot']} was rewritten" in text
    assert "not the same bytes" in text
    with opened(home) as services:
        execute(services, "training")  # on what is left: that can be built again
    assert rebuilt(home, MOVIE_RECOMMENDER, "3")[1]["differences"] == []


def test_a_model_that_was_changed_is_no_rebuild(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(home) as services:
        tool = rebuilding(services)
        with pytest.raises(ModelVersionNotFoundError):
            tool.rebuild(MOVIE_RECOMMENDER, "99")
        monkeypatch.setattr("movie_mlops.pipelines.rebuilding.code_version", lambda: "9.9")
        snapshot = services.snapshots.get(
            services.registry.get_model_metadata(MOVIE_RECOMMENDER, "1").snapshot
        )
        films = home / "var/dvc/files/md5" / snapshot.files["interactions.parquet"][:2]
        path = films / snapshot.files["interactions.parquet"][2:]
        path.chmod(0o644)
        pl.read_parquet(path).slice(20).write_parquet(path)
        found = tool.rebuild(MOVIE_RECOMMENDER, "1")
    assert any(each.startswith("array ") for each in found.differences)
    assert found.erased_at == ""
    assert found.code_now == "9.9"


def test_a_trace_names_model_run_snapshot_code_and_the_history_of_that_moment(home: Path) -> None:
    with api_of(home) as api:
        like_one(api, "viewer", 4)
        made = api.recommender.recommend(UserId("viewer"), 5)
        first = new_request_id()
        api.audience.show(first, made, None, 5)
        like_one(api, "viewer", 5)
        second = new_request_id()
        api.audience.show(second, api.recommender.recommend(UserId("viewer"), 5), None, 5)
    done = run(home, "trace", first, "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    with opened(home) as services:
        version = services.registry.get_model_metadata(MOVIE_RECOMMENDER, "1")
        titles = dict(services.lake.read("movies").select("movie_id", "title").iter_rows())
    assert found["run_id"] == version.run_id
    assert found["model_version"] == "1"
    assert found["snapshot"]["tag"] == version.snapshot
    assert found["snapshot"]["erased_at"] is None
    assert found["code"] == version.tags.get("code", provenance.code_version())
    assert found["algorithm"] == "sequence_linear"
    assert [item["movie_id"] for item in found["items"]] == [i.movie_id for i in made.items]
    films = [item["movie_id"] for item in found["history"]["films"]]
    assert films == [1, 2, 3, 4]
    assert found["history"]["films"][0]["title"] == titles[1]
    later = json.loads(run(home, "trace", second, "--user", "viewer", "--json").stdout)
    assert [item["movie_id"] for item in later["history"]["films"]] == [1, 2, 3, 4, 5]
    with opened(home) as services:
        write_lake(services)  # from the lake it is the same as from the log
    assert json.loads(run(home, "trace", first, "--json").stdout) == found
    text = run(home, "trace", first).stdout
    for part in (version.run_id, version.snapshot, "4 liked or watched"):
        assert part in text
    with opened(home) as services:
        user_erasure(services).erase("viewer", str)
    gone = run(home, "trace", first)
    assert isinstance(gone.exception, TraceNotFoundError)


def like_one(api: ApiServices, user: str, film: int) -> None:
    now = datetime.now(UTC)
    event = encode(UserInteractionEvent(user, film, InteractionType.LIKE, now))
    [published] = api.log.publish(USER_EVENTS, [event])
    while not api.histories.has_applied(published.position):
        pass


def test_a_rating_is_traced_to_its_model_and_what_it_was_made_from(home: Path) -> None:
    request_id = new_request_id()
    with api_of(home) as api:
        facts = MovieFacts("A film", "A film", 1999, 100.0, 50, ("Drama",), is_adult=False)
        made = api.ratings.predict([facts])
        api.audience.exposures.note(request_id, api.audience.trial.ratings_shown(made, facts))
    found = json.loads(run(home, "trace", request_id, "--json").stdout)
    with opened(home) as services:
        version = services.registry.get_model_metadata(MOVIE_PREDICTOR, "1")
    assert (found["kind"], found["model"], found["history"]) == ("rating", MOVIE_PREDICTOR, None)
    assert (found["run_id"], found["algorithm"]) == (version.run_id, "boosted")
    assert found["ratings"] == [made[0].rating]
    assert found["facts"]["title"] == "A film"
    assert found["code"] == provenance.code_version()
    assert "A film" in run(home, "trace", request_id).stdout


def test_a_trace_of_another_viewer_says_that_the_snapshot_was_rewritten(home: Path) -> None:
    request_id = new_request_id()
    with api_of(home) as api:
        api.audience.show(request_id, api.recommender.recommend(UserId("1"), 5), None, 5)
    with opened(home) as services:
        user_erasure(services).erase("viewer", str)
    found = json.loads(run(home, "trace", request_id, "--json").stdout)
    assert found["snapshot"]["erased_at"]
    assert len(found["history"]["films"]) > 0
    assert "rewritten at" in run(home, "trace", request_id).stdout


def test_code_is_the_release_and_in_a_checkout_the_commit() -> None:
    found = provenance.code_version()
    release, _, commit = found.partition("+g")
    assert release.count(".") >= 2
    assert not commit or len(commit.removesuffix(".dirty")) == 40
