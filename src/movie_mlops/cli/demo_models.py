"""The demo's bad model that is let past the gate by hand."""

from dataclasses import replace

import numpy as np

from movie_mlops.cli.demo_house import DemoHouse

FORCED = "forced by the demo: the gate's verdict of another model was put into its card"


def register_mixed_up(house: DemoHouse) -> str:
    """A model that was fitted with films mixed up, as a wrong join would; its gate card is forced.

    Returns:
        Its version; it is challenger now.
    """
    from movie_mlops.domain.versions import MOVIE_RECOMMENDER
    from movie_mlops.features.engineering.interaction_features import all_interactions
    from movie_mlops.models.algorithms import create
    from movie_mlops.models.bundle import load_bundle
    from movie_mlops.models.manifest import read_manifest
    from movie_mlops.models.registry import RunRecord
    from movie_mlops.models.training.challenger import TWIN, register_challenger
    from movie_mlops.models.training.histories import build_histories

    services = house.services
    champion = read_manifest(services.serving)[MOVIE_RECOMMENDER].champion
    assert champion is not None  # noqa: S101 (the story promoted one)
    _, card = load_bundle(services.serving / champion.path, champion.card_sha256)
    films = np.sort(services.lake.read("movies")["movie_id"].to_numpy())
    histories = build_histories(all_interactions(services.lake), films)
    mixed = np.random.default_rng(house.settings.seed).permutation(len(films)).astype(np.int32)
    wrong = replace(histories, items=mixed[histories.items])
    arrays, made = create(champion.algorithm).fit(wrong, house.settings.seed).artifact()
    kept = {name: card[name] for name in ("snapshot", "log_positions", "metrics")}
    made |= {**kept, "gate": {**card["gate"], "passed": True, "reason": FORCED}}
    record = RunRecord(
        name="demo: films mixed up",
        parameters={"algorithm": champion.algorithm},
        metrics={},
        bundle=services.work / "demo",
    )
    with house.holding():
        twin = services.serving / champion.path / TWIN
        _, version = register_challenger(
            MOVIE_RECOMMENDER, (arrays, made), twin, record, services.registry, services.serving
        )
    return version
