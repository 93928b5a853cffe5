"""Feature engineering: build the feature tables and bring them into the online store."""

from dataclasses import dataclass

from movie_mlops.data.engine import TableEngine
from movie_mlops.data.lake import Lake
from movie_mlops.features.engineering.build import build_features
from movie_mlops.features.store import FeatureStore
from movie_mlops.orchestration.base import Json, Pipeline, Report


@dataclass(frozen=True, slots=True)
class FeatureEngineering:
    """The steps and what they need."""

    lake: Lake
    store: FeatureStore
    engine: TableEngine

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (self.build_features, self.materialize_features)
        return Pipeline("feature_engineering", {step.__name__: step for step in steps})

    def build_features(self, inputs: Json, report: Report) -> Json:
        """Compute every feature view from the tables."""
        del inputs
        report("computing features", 0, None)
        rows = build_features(self.lake, self.engine)
        note = ", ".join(f"{count:,} rows of {view}" for view, count in rows.items())
        return {"feature_rows": rows, "note": note}

    def materialize_features(self, inputs: Json, report: Report) -> Json:
        """Apply the definitions and bring the latest values into the online store."""
        del inputs
        report("Feast: apply, materialize", 0, None)
        self.store.apply()
        self.store.materialize()
        return {"note": "online store up to date"}
