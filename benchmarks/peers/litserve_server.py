"""LitServe with the forest."""

import sys

import litserve
import numpy as np
from forest import predictor


class Forest(litserve.LitAPI):
    """One model."""

    def setup(self, device):
        """Fit at start."""
        self.answer = predictor()

    def predict(self, request):
        """Rows to ratings."""
        return {"predictions": self.answer(np.asarray(request["rows"], float)).tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Forest(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False,
               log_level="warning")  # fmt: skip
