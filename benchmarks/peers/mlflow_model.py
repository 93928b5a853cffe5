"""MLflow's model from code: `mlflow models serve` loads this file."""

import mlflow
import numpy as np
from forest import predictor


class Forest(mlflow.pyfunc.PythonModel):
    """Fitted when it is loaded."""

    def load_context(self, context):
        """Fit at start."""
        self.answer = predictor()

    def predict(self, context, model_input, params=None):
        """Rows to ratings."""
        return self.answer(np.asarray(model_input, float))


mlflow.models.set_model(Forest())
