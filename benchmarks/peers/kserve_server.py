"""KServe's Python server with the forest."""

import sys

import numpy as np
from forest import predictor
from kserve import Model, ModelServer


class Forest(Model):
    """One model named `m`."""

    def load(self) -> bool:
        """Fit at start."""
        self.answer = predictor()
        self.ready = True
        return True

    def predict(self, payload, headers=None):
        """Version 1 protocol: instances to predictions."""
        rows = np.asarray(payload["instances"], float)
        return {"predictions": self.answer(rows).tolist()}


model = Forest("m")
model.load()
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([model])
