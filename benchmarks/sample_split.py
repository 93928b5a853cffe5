"""A million simulated watches as the three files of the NCF paper's split, MovieLens-1M's size.

    python benchmarks/sample_split.py sample-1m
    python benchmarks/quality.py --data sample-1m --protocol ncf [--algorithms blend,neural_blend]

The sample catalogue in large, 3,700 films and 6,000 people; each one's last film is hidden, among
99 films that the person did not watch. Simulated people show what training costs; what is best
on them need not be best on real ones.
"""

import sys
from pathlib import Path

import numpy as np
from training import SEED, simulate

NEGATIVES = 99


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    histories, rng = simulate(), np.random.default_rng(SEED)
    ids = histories.movie_ids
    with (
        (folder / "sample.train.rating").open("w") as train,
        (folder / "sample.test.rating").open("w") as test,
        (folder / "sample.test.negative").open("w") as negative,
    ):
        for user in range(histories.user_count):
            films = histories.of(user)
            for place, film in enumerate(films[:-1].tolist()):
                train.write(f"{user}\t{ids[film]}\t5\t{place}\n")
            test.write(f"{user}\t{ids[films[-1]]}\t5\t{len(films)}\n")
            others = np.setdiff1d(np.arange(len(ids)), films)
            drawn = ids[rng.choice(others, NEGATIVES, replace=False)]
            negative.write("\t".join([f"({user},{ids[films[-1]]})", *map(str, drawn)]) + "\n")
    print(f"{len(histories.items):,} watches of {histories.user_count:,} people in {folder}")


if __name__ == "__main__":
    main()
