"""The demo's chapters, told as they happen."""

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from movie_mlops.cli.demo_house import DemoHouse
from movie_mlops.cli.demo_models import register_mixed_up
from movie_mlops.cli.demo_people import FASHION, LIST_LENGTH, WANTED_SHARE, People, Visit
from movie_mlops.cli.demo_plots import bar, drift_lines, share_lines
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events.schemas import USER_EVENTS, LoopTransition
from movie_mlops.orchestration.base import StepRun

_LIST = "/api/v1/recommendations?k=10&lang=en&user_id="


class Story:
    """One telling; raises click.ClickException where it does not come as told."""

    def __init__(self, house: DemoHouse) -> None:
        self._house = house
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._chapters = 0
        self._told = 0  # number of the last transition that was printed
        self._visits: list[Visit] = []

    def tell(self) -> None:
        """All chapters."""
        people = self.begin()
        self.after_training()
        self.click()
        self._shift(people)
        self._drift()
        self._retrain(people)
        self._refuse()
        self._roll_back(people)
        self._remember()

    def begin(self) -> People:
        """Collect, simulate, train, serve."""
        self._chapter("People with tastes, a model, a served list")
        self._run("data_collection")
        self._house.start()  # they start while the model is trained
        self.first_training()
        self._loop_says()
        self._house.wait_for("a personal list", lambda: self._path_of("1") == "personal")
        people = People.of(self._house)
        self._say(
            f"[dim]The people are simulated. Shown {LIST_LENGTH} films, they watch the first that "
            f"is among the {WANTED_SHARE:.0%} that they want most, or none.[/]"
        )
        self._show(people.visit(people.users[:100]))
        return people

    def first_training(self) -> None:
        """From tables to a champion."""
        self._run("training", "rollout", parameters={"candidates": ["sequence_linear"]})

    def after_training(self) -> None:
        """A chapter for those who have more to show; here nothing."""

    def click(self) -> None:
        """A newcomer's list before and after a like."""
        self._chapter("A click changes a list")
        user, call = "newcomer", self._house.call
        before = call(_LIST + user)
        chosen = before["items"][3]
        body = {"user_id": user, "movie_id": chosen["movie_id"], "interaction_type": "like"}
        began = time.perf_counter()
        accepted = call("/api/v1/events/user-interaction", body)
        after = call(_LIST + user, position=accepted["position"])
        took = 1000 * (time.perf_counter() - began)
        self._say(f"{'':>2}  {'[bold]before':<42}after[/]")
        for number, (one, other) in enumerate(zip(before["items"], after["items"], strict=True), 1):
            self._say(f"{number:>2}  {one['title'][:34]:<36}{other['title'][:34]}")
        known = {item["movie_id"] for item in before["items"]}
        new = [item for item in after["items"] if item["movie_id"] not in known]
        self._say(
            f"left: {before['path']}; right: {after['path']} after a like of «{chosen['title']}», "
            f"{len(new)} films new, {took:.0f} ms, no training ({accepted['position']})"
        )
        if not new or chosen["movie_id"] in {item["movie_id"] for item in after["items"]}:
            raise click.ClickException("the list did not change as it should")

    def _shift(self, people: People) -> None:
        self._chapter(f"Tastes shift: everybody wants {FASHION.lower()} films")
        people.shift()
        began = time.perf_counter()
        count = people.act()
        rate = count / (time.perf_counter() - began)
        self._say(f"{count:,} acts of {len(people.users)} people over HTTP, {rate:,.0f} a second")
        self._show(people.visit(people.users[:100]))
        log, lake = self._house.services.log, self._house.services.lake

        def is_written() -> bool:
            written = lake.event_positions(USER_EVENTS)
            ends = log.end_positions([USER_EVENTS])
            return all(written.get(place.partition, 0) >= end for place, end in ends.items())

        seconds = self._house.wait_for("all events in the lake", is_written)
        self._say(f"all of them in the lake {seconds:.1f} s later")

    def _drift(self) -> None:
        self._chapter("Drift is found: what people do beside what the champion learnt")
        self._say(
            "[dim]Watched here: what tells of tastes. How much people do is the demo's choice, "
            "which would be drift as well.[/]"
        )
        self._run("drift_detection")
        report = json.loads((self._house.home / "var/drift/report.json").read_text())
        for line in drift_lines(report["features"]):
            self._say(line)
        if report["state"] != "drift":
            raise click.ClickException(f"no drift was found: {report['state']}")

    def _retrain(self, people: People) -> None:
        self._chapter("A better model, without a person")
        self._say("[dim]The worker's loop reads the drift event; nobody calls it.[/]")
        self._follow("shadow")
        self._pass_the_shadow(people)
        self._judge(people)
        self._end_of("champion")

    def _refuse(self) -> None:
        self._chapter("A bad model: somebody trains popularity alone")
        self._run("training", "rollout", parameters={"candidates": ["popularity"]})
        self._follow("refused")

    def _roll_back(self, people: People) -> None:
        self._chapter("A worse one gets past the gate by force")
        version = register_mixed_up(self._house)
        self._say(
            f"v{version} was fitted with films mixed up, as a wrong join would do. The gate never "
            "saw it: the demo forged its card, so that only viewers can tell."
        )
        self._run("rollout")
        self._follow("shadow")
        self._pass_the_shadow(people)
        self._judge(people)
        self._end_of("archived")
        self._house.wait_for("the champion alone", lambda: not self._has_canary())
        self._show(people.visit(people.users[:100]))

    def _remember(self) -> None:
        self._chapter("What the loop remembers (movie-mlops loop history)")
        table = Table("when", "what", "from → to", "why", "who")
        for each in self._house.services.loop_store.history(50)[::-1]:
            event = each.event
            moved = f"{event.before} → {event.after}"
            when = f"{event.timestamp:%H:%M:%S}"
            table.add_row(when, event.subject, moved, event.reason, event.actor)
        self._console.print(table)
        self._console.print("\nLists with a watched film by model version, in the order of time:")
        for line in share_lines(self._visits):
            self._say(line)
        self._console.print(f"\n[green]told in {time.monotonic() - self._began:.0f} s[/]")

    def _judge(self, people: People) -> None:
        """Everybody visits once while the canary's A/B test runs."""
        self._house.wait_for("the canary's lists", self._has_canary)
        self._show(people.visit(people.users))

    def _has_canary(self) -> bool:
        return any(each["active"] for each in self._house.call("/api/v1/experiments")["items"])

    def _show(self, visits: list[Visit]) -> None:
        self._visits += visits
        for version in sorted({visit.version for visit in visits}, key=int):
            mine = [visit.watched for visit in visits if visit.version == version]
            share = sum(mine) / len(mine)
            self._say(f"v{version}  {bar(share, 1):<30} {share:4.0%} of {len(mine)} viewers watch")

    def _follow(self, stage: str) -> None:
        """Print what the loop does until something has come to this stage."""
        deadline = time.monotonic() + self._house.longest_wait
        while time.monotonic() < deadline:
            self._house.start()
            if stage in self._loop_says():
                return
            time.sleep(0.1)
        message = f"nothing came to the stage {stage}; see {self._house.home / 'var/logs'}"
        raise click.ClickException(message)

    def _pass_the_shadow(self, people: People) -> None:
        """Let people look until the challenger has made its lists; it takes a moment to load.

        Raises:
            click.ClickException: it never made enough.
        """
        deadline = time.monotonic() + self._house.longest_wait
        while "canary" not in self._loop_says():
            if time.monotonic() > deadline:
                message = f"nobody left the shadow; see {self._house.home / 'var/logs'}"
                raise click.ClickException(message)
            self._house.start()
            people.visit(people.users, act=False)

    def _end_of(self, stage: str) -> None:
        self._follow(stage)
        store = self._house.services.loop_store
        self._house.wait_for("the end of the roll-out", lambda: not store.rollouts())

    def _loop_says(self) -> set[str]:
        """Print new transitions; the stages that they led to."""
        noted = self._house.services.loop_store.history(50)[::-1]
        new = [each for each in noted if each.number > self._told]
        for each in new:
            self._told = each.number
            self._say(_sentence(each.event))
        return {each.event.after for each in new}

    def _run(self, *names: str, parameters: dict[str, Any] | None = None) -> None:
        with self._console.status("") as status:

            def report(what: str, done: int, total: int | None) -> None:
                del done, total
                status.update(what)

            for step in self._house.run(*names, report=report, parameters=parameters):
                self._tell(step)

    def _tell(self, step: StepRun) -> None:
        note = str(step.output.get("note", ""))
        if not note.endswith(": no challenger"):  # of models that the demo leaves out
            self._say(f"[dim]{step.name:<26}{step.seconds:5.1f} s  {note}[/]")

    def _path_of(self, user: str) -> str:
        return str(self._house.call(_LIST + user)["path"])

    def _chapter(self, title: str) -> None:
        self._chapters += 1
        self._console.print(f"\n[bold]{self._chapters}  {title}[/]")

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:5.1f}[/]  {text}")


def _sentence(event: LoopTransition) -> str:
    subject = "" if event.subject == "retraining" else event.subject.replace("version ", "v")
    model = "" if event.model_name == MOVIE_RECOMMENDER else f"{event.model_name} "
    return f"[cyan]{model}{subject} {event.before} → {event.after}[/]: {event.reason}".replace(
        "[cyan] ", "[cyan]"
    )
