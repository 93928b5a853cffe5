"""From a fitted model to a registered challenger, and the champion that it must beat."""

from dataclasses import replace
from pathlib import Path

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.domain.versions import Alias
from movie_mlops.models.algorithms.base import Arrays, Card
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, point, read_manifest
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.models.training.provenance import code_version

TWIN = "twin"


def register_challenger(
    model: str,
    artifact: tuple[Arrays, Card],
    twin: Path,
    record: RunRecord,
    registry: ModelRegistry,
    serving: Path,
) -> tuple[str, str]:
    """Log the run, make a version of it, write its bundle for serving, point challenger at it.

    The card names algorithm and snapshot, and is told which code this is; `record.bundle` is where
    the bundle is made first. `twin` is the bundle of the same recipe fitted without the test rows:
    it goes along, and is what later challengers are compared with. Killed in between, a version
    without an alias stays in the registry and nothing is served.

    Returns:
        Run id and version.
    """
    assert record.bundle is not None  # noqa: S101 (a training run has a model)
    arrays, card = artifact
    card = {**card, "code": code_version()}
    save_bundle(record.bundle, arrays, card)
    tags = {key: card[key] for key in ("snapshot", "algorithm", "code")}
    run_id = registry.log_run(model, replace(record, tags={**record.tags, **tags}))
    version = registry.register_model(model, run_id).version
    path = f"{model}/{version}"
    sha = save_bundle(serving / path, arrays, card)
    save_bundle(serving / path / TWIN, *load_bundle(twin))
    entry = Entry(version, path, sha, card["snapshot"], card["algorithm"])
    point(serving, model, Alias.CHALLENGER, entry)
    registry.set_alias(model, Alias.CHALLENGER, version)
    return run_id, version


def load_rival(model: str, serving: Path) -> tuple[str, Arrays, Card] | None:
    """Version, arrays and card of the champion's twin; None where there is none, or it is damaged.

    The champion itself was fitted on all rows, those included that are the test now: it would be
    judged on what it has seen. A champion without a readable twin is no rival: then the baseline
    is the bar again.
    """
    served = read_manifest(serving).get(model)
    if served is None or served.champion is None:
        return None
    try:
        arrays, card = load_bundle(serving / served.champion.path / TWIN)
    except ArtifactCorruptError:
        return None
    return served.champion.version, arrays, card
