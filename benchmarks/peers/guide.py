"""The guide's way: FastAPI, a data frame and the forest's own predict for each request."""

import sys

import pandas as pd
import uvicorn
from fastapi import FastAPI
from forest import predictor
from pydantic import BaseModel

app = FastAPI()
predict = predictor()


class Movie(BaseModel):
    """The guide's three columns."""

    startYear: int  # noqa: N815 (the guide's name)
    runtimeMinutes: int  # noqa: N815
    numVotes: int  # noqa: N815


@app.post("/predict/movie")
def predict_movie(movie: Movie) -> dict[str, float]:
    """One rating."""
    frame = pd.DataFrame([movie.model_dump()])
    return {"predicted_rating": float(predict(frame.to_numpy(float))[0])}


uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
