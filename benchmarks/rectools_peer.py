"""Runs inside the peers' environment: fit RecTools' SASRec or HSTU on a split, write scores.

    python rectools_peer.py SPLIT.npz SCORES.npy rectools_sasrec|rectools_hstu SEED EPOCHS

Defaults of RecTools 0.19 but for what is set below; the last line printed is JSON with the cost.
"""

import json
import resource
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")


def main() -> None:
    split, where, name, seed, epochs = sys.argv[1:]
    import torch
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import HSTUModel, SASRecModel

    torch.manual_seed(int(seed))
    with np.load(split) as given:
        indptr, items, times, users, films = (
            given[key] for key in ("indptr", "items", "times", "users", "films")
        )
    owners = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    rows = pd.DataFrame(
        {
            Columns.User: owners,
            Columns.Item: items,
            Columns.Weight: 1.0,
            # in order of the rows: RecTools sorts by time, and ties must not be shuffled
            Columns.Datetime: pd.to_datetime(times, unit="us")
            + pd.to_timedelta(np.arange(len(items)) - indptr[owners], unit="ns"),
        }
    )
    dataset = Dataset.construct(rows)

    kind = SASRecModel if name == "rectools_sasrec" else HSTUModel
    # HSTU's attention to time asks for the time of the request, which this split does not have
    options = {} if name == "rectools_sasrec" else {"relative_time_attention": False}
    model = kind(
        n_factors=128, n_blocks=2, n_heads=4, session_max_len=128, loss="softmax",
        batch_size=128, lr=1e-3, epochs=int(epochs), deterministic=True, **options,
    )  # fmt: skip
    begun = time.process_time()
    model.fit(dataset)
    spent = time.process_time() - begun
    count = int(films)
    recommended = model.recommend(users, dataset, k=count, filter_viewed=False)
    scores = np.full((len(users), count), -1e9, np.float32)
    place = pd.Series(np.arange(len(users)), index=users)
    rows_at = place[recommended[Columns.User]].to_numpy()
    scores[rows_at, recommended[Columns.Item].to_numpy()] = recommended[Columns.Score].to_numpy()
    np.save(where, scores)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"train_cpu_seconds": spent, "peak_memory_mb": peak}))


if __name__ == "__main__":
    main()
