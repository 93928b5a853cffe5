"""Roll-out: a challenger that passed its gate becomes champion; roll back is one pointer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from movie_mlops.domain.errors import ModelVersionNotFoundError
from movie_mlops.domain.versions import (
    MOVIE_PREDICTOR,
    MOVIE_RECOMMENDER,
    NEURAL_RECOMMENDER,
    Alias,
)
from movie_mlops.models.bundle import CARD, file_sha256, load_bundle
from movie_mlops.models.manifest import (
    Entry,
    forget_unserved,
    point,
    read_manifest,
    roll_back,
)
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.follower import HISTORIES
from movie_mlops.orchestration.base import Json, Pipeline, Report


@dataclass(frozen=True, slots=True)
class Rollout:
    """Moves aliases; the manifest first, because serving follows it, then the registry.

    `promoted` is told model, version and reason after each change.
    """

    serving: Path
    registry: ModelRegistry
    promoted: Callable[[str, str, str], None]

    def pipeline(self) -> Pipeline:
        """One step per registered model."""
        steps = {
            "roll_out_recommender": partial(self._step, MOVIE_RECOMMENDER),
            "roll_out_predictor": partial(self._step, MOVIE_PREDICTOR),
            "roll_out_neural_recommender": partial(self._step, NEURAL_RECOMMENDER),
        }
        return Pipeline("rollout", steps)

    def promote(self, model: str, version: str, reason: str = "promoted by hand") -> None:
        """Make a version whose bundle lies in the serving folder champion.

        Raises:
            ModelVersionNotFoundError: there is no such bundle.
            ArtifactCorruptError: its bundle is damaged.
        """
        path = f"{model}/{version}"
        if not version.isdecimal() or not (self.serving / path / CARD).exists():
            message = f"{model} has no bundle of version {version[:20]!r} in {self.serving}"
            raise ModelVersionNotFoundError(message)
        sha = file_sha256(self.serving / path / CARD)
        _, card = load_bundle(self.serving / path, sha)
        entry = Entry(version, path, sha, card["snapshot"], card["algorithm"])
        served = read_manifest(self.serving).get(model)
        if served is None or served.champion != entry:  # again is no change: nothing to go back to
            point(self.serving, model, Alias.CHAMPION, entry)
        self._mirror(model)
        self.promoted(model, version, reason)

    def roll_back(self, model: str) -> str:
        """Put the previous champion back; return its version.

        Raises:
            ModelVersionNotFoundError: there is no previous champion.
        """
        champion = roll_back(self.serving, model).champion
        assert champion is not None  # noqa: S101 (roll_back raises otherwise)
        self._mirror(model)
        self.promoted(model, champion.version, "rolled back")
        return champion.version

    def _step(self, model: str, inputs: Json, report: Report) -> Json:
        """Promote the challenger when its gate passed; otherwise say why it stays."""
        del inputs
        report(f"rolling out {model}", 0, None)
        for name in (model, HISTORIES):
            forget_unserved(self.serving, name)
        served = read_manifest(self.serving).get(model)
        if served is None or served.challenger is None:
            if served is not None:
                self._mirror(model)  # a promotion may have been killed before the registry knew
            return {"note": f"{model}: no challenger"}
        challenger = served.challenger
        _, card = load_bundle(self.serving / challenger.path, challenger.card_sha256)
        verdict = card["gate"]
        if not verdict["passed"]:
            return {"note": f"{model} v{challenger.version} refused: {verdict['reason']}"}
        self.promote(model, challenger.version, verdict["reason"])
        return {"note": f"{model} v{challenger.version} is champion: {verdict['reason']}"}

    def _mirror(self, model: str) -> None:
        """Let the registry's aliases say what the manifest says, also when two promote at once."""
        served = None
        while served != (served := read_manifest(self.serving)[model]):
            for alias, entry in (
                (Alias.CHAMPION, served.champion),
                (Alias.CHALLENGER, served.challenger),
            ):
                if entry is None:
                    self.registry.remove_alias(model, alias)
                else:
                    self.registry.set_alias(model, alias, entry.version)
