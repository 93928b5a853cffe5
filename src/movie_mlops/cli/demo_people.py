"""The demo's simulated people: they act, and answer what they are shown by their tastes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from movie_mlops.cli.demo_house import DemoHouse

if TYPE_CHECKING:
    import polars as pl

    from movie_mlops.data.processors.population import Population

FASHION, STRENGTH = "Mystery", 9.0
ACTS_PER_PERSON = 5  # watched films of each after the fashion came
LIST_LENGTH = 3
WANTED_SHARE = 0.05
_THREADS = 8
_ACT = "/api/v1/events/user-interaction"


class Visit(NamedTuple):
    """A list that somebody was shown, and whether a film of it was watched."""

    version: str
    watched: bool


@dataclass(slots=True)
class People:
    """Everyone of the sample; `population` says what they want now."""

    house: DemoHouse
    population: "Population"

    @classmethod
    def of(cls, house: DemoHouse) -> "People":
        """Those whose acts the home's data collection simulated: same films, same seed."""
        from movie_mlops.data.processors.population import draw_population

        settings = house.settings
        films = house.services.lake.read("movies")
        return cls(house, draw_population(films, settings.sample_people, settings.seed))

    @property
    def users(self) -> list[str]:
        """Their ids."""
        return [str(number) for number in range(1, len(self.population) + 1)]

    def shift(self) -> None:
        """From now on all want films of one genre more."""
        self.population = self.population.shifted(STRENGTH, FASHION)

    def act(self) -> int:
        """Each does over HTTP what tastes and simulation say: views, clicks, watches, ratings.

        Returns:
            The number of acts.
        """
        acts = self._latest_acts()
        columns = ["user_id", "movie_id", "interaction_type", "rating"]
        by_person = acts.select(columns).partition_by("user_id", maintain_order=True)

        def do(rows: "pl.DataFrame") -> None:
            for row in rows.iter_rows(named=True):
                self.house.call(_ACT, {k: v for k, v in row.items() if v is not None})

        self._together(do, by_person)
        return len(acts)

    def visit(self, users: Sequence[str], *, act: bool = True) -> list[Visit]:
        """Each is shown a list and watches the first film of it that is among the most wanted.

        Most wanted: the best `WANTED_SHARE` of all films for this person. Not `act`: only looks.
        """

        def do(user: str) -> Visit:
            path = f"/api/v1/recommendations?k={LIST_LENGTH}&lang=en&user_id={user}"
            shown = self.house.call(path)
            films = [item["movie_id"] for item in shown["items"]]
            chosen = self._first_wanted(user, films) if act else None
            if chosen is not None:
                body = {"user_id": user, "movie_id": chosen, "request_id": shown["request_id"]}
                self.house.call(_ACT, {**body, "interaction_type": "click"})
                self.house.call(_ACT, {**body, "interaction_type": "watch"})
            return Visit(shown["model_version"], chosen is not None)

        return self._together(do, users)

    def _first_wanted(self, user: str, films: Sequence[int]) -> int | None:
        ids = self.population.films.movie_id
        wants = self.population.utility(np.array([int(user) - 1]))[0]
        bar = np.quantile(wants, 1 - WANTED_SHARE)
        rows = np.searchsorted(ids, films)
        return next(
            (film for film, row in zip(films, rows, strict=True) if wants[row] >= bar), None
        )

    def _latest_acts(self) -> "pl.DataFrame":
        """Of a simulated life with these tastes everyone's latest acts, films seen before left out.

        Views have films of their own; they are thinned as much as watches, so that the mix of
        acts stays that of the simulation.
        """
        import polars as pl

        from movie_mlops.data.processors.tastes import simulate_interactions

        mean = self.house.settings.sample_watches_per_person
        acts = simulate_interactions(self.population, datetime.now(UTC), 3 * mean)
        is_watch = pl.col("interaction_type") == "watch"
        seen = self.house.services.lake.read("interactions").filter(is_watch)
        pair = ["user_id", "movie_id"]
        is_view = pl.col("interaction_type") == "view"
        fresh = acts.filter(~is_view).join(seen.select(pair).unique(), on=pair, how="anti")
        kept = len(fresh.filter(is_watch)) / len(acts.filter(is_watch))
        views = acts.filter(is_view).sample(fraction=kept, seed=self.population.seed)
        since = (
            fresh.filter(is_watch)
            .sort("timestamp")
            .group_by("user_id", maintain_order=True)
            .agg(pl.col("timestamp").tail(ACTS_PER_PERSON).first().alias("since"))
        )
        both = pl.concat([fresh, views]).join(since, on="user_id")
        early = pl.duration(minutes=10)  # looking around comes before watching
        return both.filter(pl.col("timestamp") >= pl.col("since") - early).sort("timestamp")

    def _together(self, do: Any, work: Sequence[Any]) -> list[Any]:
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(do, work))
