"""BentoML with the forest: `bentoml serve bentoml_service:Forest`."""

import bentoml
import numpy as np
from forest import predictor


@bentoml.service(workers=1, traffic={"timeout": 10})
class Forest:
    """One service."""

    def __init__(self) -> None:
        self.answer = predictor()

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        """Rows to ratings."""
        return self.answer(np.asarray(rows, float)).tolist()
