"""The networks: NumPy against PyTorch, the guide's loop, training that learns."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

import torch
from torch import nn

import movie_mlops
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import Iterative, TrainingHistories
from movie_mlops.models.algorithms.networks import ligr, ligr_training, network_module, neumf
from movie_mlops.models.algorithms.networks.forward import Forward, Shape
from movie_mlops.models.algorithms.networks.gaps import BUCKETS, buckets
from movie_mlops.models.algorithms.networks.scorer import torch_scorer
from movie_mlops.models.algorithms.neural_cf import data_loaders
from movie_mlops.models.bundle import save_bundle

FILMS = 50
SHAPES = [
    Shape(64, 2, 2, 16, 128),
    Shape(32, 3, 1, 16, 48, wide=True),
    Shape(64, 2, 2, 16, 128, gaps=BUCKETS),
]
SMALL = {
    "sasrec": {"dim": 32, "epochs": 6, "length": 16, "tokens": 512},
    "neural_cf": {"embedding_dim": 8, "epochs": 4, "batch_size": 512},
}


def shaken(shape: Shape) -> ligr.Ligr:
    """A network whose weights are all of a size that matters."""
    network = ligr.Ligr(FILMS, shape, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture(params=SHAPES, ids=["plain", "wide", "timed"])
def network(request: pytest.FixtureRequest) -> ligr.Ligr:
    return shaken(request.param)


@pytest.fixture(scope="module")
def histories() -> TrainingHistories:
    """80 people who walk around a ring of 40 films; the last ten films are seen by nobody."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 30, 80)
    lists = [(rng.integers(40) + np.arange(length)) % 40 for length in lengths]
    return TrainingHistories(
        movie_ids=np.arange(FILMS, dtype=np.int64) + 100,
        user_ids=tuple(map(str, range(80))),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate(lists).astype(np.int32),
    )


@pytest.fixture(scope="module", params=list(SMALL))
def fitted(request: pytest.FixtureRequest, histories: TrainingHistories):
    return create(request.param, **SMALL[request.param]).fit(histories, seed=1)


def some_histories(longest: int = 30) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, FILMS, length) for length in (1, 2, 7, 15, 16, 17, longest, 16)]


def times_of(histories: list[np.ndarray]) -> list[np.ndarray]:
    """Rising times with ties, steps from a second to years."""
    rng = np.random.default_rng(4)
    made = []
    for history in histories:
        steps = np.exp(rng.uniform(0, 18, len(history))) * (rng.random(len(history)) < 0.6)
        made.append(1_000_000 * np.cumsum(steps).astype(np.int64))
    return made


def test_numpy_and_torch_make_the_same_states_and_scores(network: ligr.Ligr) -> None:
    weights = network.to_arrays()
    ours = Forward(network.shape, weights)
    theirs = ligr.LigrOnDevice(network.shape, weights, "cpu")
    asked = some_histories()
    untimed = ours.states(asked)
    for times in (None, times_of(asked)):
        states = ours.states(asked, times)
        assert states.dtype == np.float32
        np.testing.assert_allclose(states, theirs.states(asked, times), atol=1e-4)
        np.testing.assert_allclose(ours.logits(states), theirs.logits(states), atol=1e-4)
        changed = times is not None and network.shape.gaps > 0
        assert np.allclose(states, untimed, atol=1e-3) != changed


def test_gaps_fall_into_buckets_that_double() -> None:
    seconds = [0, 0.9, 1, 3, 4, 86_400, 10**12]
    times = (np.array(seconds) * 1e6).astype(np.int64)
    expected = [0, 0, 1, 2, 3, 17, BUCKETS - 1]
    assert buckets(times[:1], times).tolist() == [expected]
    assert buckets(times, times[:1])[:, 0].tolist() == expected  # whichever was first
    assert buckets(times[None], times[None]).shape == (1, 7, 7)


def test_all_acts_at_one_moment_are_as_without_times() -> None:
    network = shaken(SHAPES[2])
    forward = Forward(network.shape, network.to_arrays())
    asked = some_histories()
    at_once = [np.full(len(history), 10**15) for history in asked]
    np.testing.assert_allclose(forward.states(asked, at_once), forward.states(asked), atol=1e-4)


def test_a_new_network_with_gaps_scores_as_the_one_without() -> None:
    plain, timed = ligr.Ligr(FILMS, SHAPES[0], seed=1), ligr.Ligr(FILMS, SHAPES[2], seed=1)
    asked = some_histories()
    states = Forward(timed.shape, timed.to_arrays()).states(asked, times_of(asked))
    expected = Forward(plain.shape, plain.to_arrays()).states(asked)
    np.testing.assert_allclose(states, expected, atol=1e-6)


def test_weights_survive_as_arrays(network: ligr.Ligr) -> None:
    weights = network.to_arrays()
    assert {name: array.shape for name, array in weights.items()} == network.shape.arrays(FILMS)
    again = ligr.Ligr.from_arrays(network.shape, weights).to_arrays()
    for name, array in weights.items():
        assert np.array_equal(array, again[name])


def test_states_without_a_film_are_those_of_the_shorter_history(network: ligr.Ligr) -> None:
    forward = Forward(network.shape, network.to_arrays())
    on_device = ligr.LigrOnDevice(network.shape, network.to_arrays(), "cpu")
    asked = some_histories()[1:]
    for history, at in [*zip(asked, times_of(asked), strict=True), (asked[3], None)]:
        latest = min(len(history), 5)
        places = range(len(history) - latest, len(history))
        shorter = [np.delete(history, place) for place in places]
        times = [np.delete(at, place) for place in places] if at is not None else None
        expected = forward.states(shorter, times)
        for network_of in (forward, on_device):
            found = network_of.states_without(history, latest, at)
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_future_changes_nothing(network: ligr.Ligr) -> None:
    items = torch.from_numpy(np.random.default_rng(1).integers(0, FILMS, (3, 12)))
    other = items.clone()
    other[:, 7:] = 0
    torch.testing.assert_close(network(items)[:, :7], network(other)[:, :7])


def test_by_lag_is_a_matrix_of_lags() -> None:
    made = ligr.by_lag(torch.tensor([1.0, 2.0, 3.0]), 0.0)
    assert made.tolist() == [[1, 0, 0], [2, 1, 0], [3, 2, 1]]


def test_masks_keep_the_mean_and_drop_their_share() -> None:
    masks = ligr_training.Masks(0.25, torch.device("cpu"), seed=1)
    kept = masks(torch.ones(200, 500))
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (kept == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(kept, masks(torch.ones(200, 500)))
    assert masks(torch.ones(3000, 2000)).shape == (3000, 2000)  # larger than the buffer
    assert ligr_training.Masks(0.0, torch.device("cpu"), 1)(kept) is kept


def test_the_sampled_loss_is_the_full_softmax_when_all_others_are_drawn() -> None:
    network = shaken(SHAPES[0])
    step = ligr_training._Step(network, ligr_training.Plan(), torch.device("cpu"), 0)
    states = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    wanted = torch.arange(20)
    full = nn.functional.cross_entropy(network.score(states), wanted, reduction="none")
    for film in range(20):
        others = torch.tensor([other for other in range(FILMS) if other != film])
        ours = step._loss(states[[film]], wanted[[film]], others)
        torch.testing.assert_close(ours, full[film])
    # a film drawn as its own negative does not count twice
    drawn = torch.tensor([3, 8, 0])
    logits = network.score(states[[3]])[0]
    rest = logits[[8, 0]] + np.log((FILMS - 1) / 3)
    expected = torch.cat([logits[[3]], rest]).logsumexp(0) - logits[3]
    torch.testing.assert_close(step._loss(states[[3]], wanted[[3]], drawn), expected)


def test_the_rate_warms_up_and_falls_to_its_least() -> None:
    step = ligr_training._Step(
        ligr.Ligr(FILMS, SHAPES[0]), ligr_training.Plan(), torch.device("cpu"), 0
    )
    step.total = 2_000
    factors = []
    for step._done in (0, 99, 199, 1_000, 1_999):
        factors.append(step._factor())
    assert factors[0] == pytest.approx(1 / 200)
    assert factors[1] == pytest.approx(0.5, abs=0.01)
    assert factors[2] > 0.97
    assert factors[3] == pytest.approx(0.51)
    assert factors[4] == pytest.approx(0.02, abs=0.001)


def test_the_default_is_the_recipe_for_a_million_interactions() -> None:
    shape, plan = create("sasrec")._sized(1_000_000, ligr_training.Plan)
    assert shape == Shape(128, 2, 4, 128, 256, wide=False)
    assert (plan.epochs, plan.negatives, plan.dropout) == (5, 1_024, 0.25)
    network = ligr.Ligr(3_706, shape)
    assert neumf.count_parameters(network) == 873_594  # as the recipe says
    wide, plan = create("sasrec", wide=True)._sized(1_000_000, ligr_training.Plan)
    assert plan.epochs == 18
    assert neumf.count_parameters(ligr.Ligr(3_706, wide)) == 873_594 + 2 * (3_706 * 128 + 128)


@pytest.mark.parametrize("name", list(SMALL))
def test_every_epoch_is_told_and_the_loss_falls(name: str, histories: TrainingHistories) -> None:
    model = create(name, **SMALL[name])
    assert isinstance(model, Iterative)
    told: list[tuple[str, int, int | None]] = []
    model.progress = lambda *what: told.append(what)
    model.fit(histories, seed=1)
    epochs = SMALL[name]["epochs"]
    assert [(done, total) for _, done, total in told] == [
        (epoch, epochs) for epoch in range(1, epochs + 1)
    ]
    losses = [float(text.rpartition(" ")[2]) for text, _, _ in told]
    assert told[0][0].startswith(f"epoch 1 of {epochs}, loss ")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("more", [{"wide": True}, {"jitter": 0.5}, {"blocks": 1, "dim": 64}])
def test_the_network_learns_the_ring(histories: TrainingHistories, more: dict) -> None:
    model = create("sasrec", **(SMALL["sasrec"] | {"epochs": 25} | more)).fit(histories, seed=1)
    asked = [np.arange(start, start + 6) % 40 for start in range(40)]
    best = model.score(asked).argmax(axis=1)
    hits = sum(int(film) in ((start + 6) % 40, (start + 7) % 40) for start, film in enumerate(best))
    assert hits > 20  # by chance 2


@pytest.fixture(scope="module")
def paced() -> TrainingHistories:
    """150 people on a ring of 40 films: a step forth after a short pause, back after a long one."""
    rng = np.random.default_rng(6)
    people, length = 150, 24
    short = rng.random((people, length)) < 0.5
    steps = np.where(short, 1, -1)
    films = (rng.integers(40, size=(people, 1)) + np.cumsum(steps, axis=1) - steps) % 40
    pauses = np.where(short, rng.integers(0, 4, short.shape), rng.integers(10_000, 90_000))
    times = np.cumsum(pauses, axis=1) * 1_000_000 + 10**15
    return TrainingHistories(
        movie_ids=np.arange(FILMS, dtype=np.int64),
        user_ids=tuple(map(str, range(people))),
        indptr=np.arange(people + 1) * length,
        items=films.ravel().astype(np.int32),
        times=times.ravel(),
    )


def test_the_pause_before_the_last_film_tells_the_next(paced: TrainingHistories) -> None:
    given = {"dim": 32, "epochs": 14, "length": 24, "tokens": 128, "dropout": 0.1}
    model = create("sasrec", **given, time_bias=True).fit(paced, seed=1)
    assert model.reads_times
    asked = [paced.of(user)[:-1] for user in range(150)]
    times = [at[:-1] for at in paced.times_of(range(150))]
    nexts = paced.items[paced.indptr[1:] - 1]
    told = np.mean(model.score(asked, times).argmax(axis=1) == nexts)
    untold = np.mean(model.score(asked).argmax(axis=1) == nexts)
    assert told > 0.9
    assert untold < 0.75  # forth or back: half of them by chance
    again = load(*model.artifact())
    assert np.array_equal(again.score(asked, times), model.score(asked, times))
    on_torch = torch_scorer(model, "cpu")
    np.testing.assert_allclose(on_torch.score(asked, times), model.score(asked, times), atol=1e-4)


def test_time_bias_without_times_that_differ_is_none(histories: TrainingHistories) -> None:
    without = create("sasrec", **SMALL["sasrec"]).fit(histories, seed=1)
    for times in (None, np.repeat(np.arange(80), np.diff(histories.indptr))):
        given = replace(histories, times=times)
        model = create("sasrec", **SMALL["sasrec"], time_bias=True).fit(given, seed=1)
        assert not model.reads_times
        for name, array in without.artifact()[0].items():
            assert np.array_equal(model.artifact()[0][name], array)


def test_an_artifact_from_before_the_bias_loads(histories: TrainingHistories) -> None:
    model = create("sasrec", **SMALL["sasrec"]).fit(histories, seed=1)
    arrays, card = model.artifact()
    assert "gaps" not in arrays
    del card["shape"]["gaps"]
    card["parameters"] = {k: v for k, v in card["parameters"].items() if k != "time_bias"}
    asked = [histories.of(user) for user in range(9)]
    assert np.array_equal(load(arrays, card).score(asked), model.score(asked))


def test_contributions_know_the_times(paced: TrainingHistories) -> None:
    given = SMALL["sasrec"] | {"epochs": 3}
    model = create("sasrec", **given, time_bias=True).fit(paced, seed=1)
    history, times = np.append(paced.of(3), 45), np.append(paced.times_of([3])[0], 10**16)
    history, times = np.roll(history, 4), np.roll(times, 4)  # one in the middle is unknown
    whole = model.score([history], [times])[0]
    for item in (2, 30):
        found = model.contributions(history, item, times)
        assert np.count_nonzero(found) == 8
        for place in np.flatnonzero(found):
            without = model.score([np.delete(history, place)], [np.delete(times, place)])[0]
            assert found[place] == pytest.approx(whole[item] - without[item], abs=1e-4)
        assert not np.array_equal(found, model.contributions(history, item))


def test_a_film_of_nobody_comes_last(fitted) -> None:
    scores = fitted.score([np.arange(5), np.array([45, 46]), np.empty(0, int)])
    assert (scores[:, 40:] < scores[:, :40].min(axis=1, keepdims=True)).all()
    assert fitted.contributions(np.array([1, 2]), 45).tolist() == [0, 0]
    assert np.isfinite(np.delete(fitted.similar(45), 45)).all()


def test_contributions_are_what_the_score_loses(fitted) -> None:
    for history in (np.array([7]), np.array([3, 45, 4]), np.arange(20), np.arange(26) % 26):
        whole = fitted.score([history])[0]
        for item in (2, 11, 33):
            found = fitted.contributions(history, item)
            for place in range(len(history)):
                if not found[place]:
                    continue
                without = fitted.score([np.delete(history, place)])[0]
                assert found[place] == pytest.approx(whole[item] - without[item], abs=1e-4)
            assert np.count_nonzero(found) == min(
                (history < 40).sum(), 8 if fitted.name == "sasrec" else 20
            )


def test_the_order_matters_to_the_one_only(fitted) -> None:
    forth = fitted.score([np.arange(8)])
    back = fitted.score([np.arange(8)[::-1]])
    assert np.allclose(forth, back, atol=1e-4) == (fitted.name == "neural_cf")


def test_scoring_in_torch_equals_scoring_in_numpy(fitted) -> None:
    on_torch = torch_scorer(fitted, "cpu")
    asked = [history % 45 for history in some_histories()] + [np.empty(0, int)]
    np.testing.assert_allclose(on_torch.score(asked), fitted.score(asked), atol=1e-4)
    ours, theirs = fitted.contributions(asked[3], 5), on_torch.contributions(asked[3], 5)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    with pytest.raises(ConfigurationError, match="popularity is no network"):
        torch_scorer(create("popularity"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
def test_networks_train_and_score_on_a_gpu(histories: TrainingHistories) -> None:
    for name, parameters in SMALL.items():
        model = create(name, device="cuda", **parameters).fit(histories, seed=1)
        asked = [history % 40 for history in some_histories()]
        np.testing.assert_allclose(
            torch_scorer(model, "cuda").score(asked), model.score(asked), atol=1e-3
        )


def test_a_device_that_is_not_there_is_named(histories: TrainingHistories) -> None:
    with pytest.raises(ConfigurationError, match="no_such_device"):
        create("sasrec", device="no_such_device").fit(histories)


def test_fit_leaves_torch_as_it_was(histories: TrainingHistories) -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state()
    create("neural_cf", embedding_dim=4, epochs=1).fit(histories)
    create("sasrec", dim=32, epochs=1, length=8).fit(histories)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert not torch.are_deterministic_algorithms_enabled()


def test_serving_a_network_does_not_load_torch(fitted, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", *fitted.artifact())
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from movie_mlops.models.algorithms import load\n"
        "from movie_mlops.models.bundle import load_bundle\n"
        f"model = load(*load_bundle(Path({str(tmp_path / 'bundle')!r})))\n"
        "print(model.score([np.arange(5)])[0].argmax(), model.contributions(np.arange(5), 9).size,"
        " 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(fitted.score([np.arange(5)])[0].argmax()), "5", "False"]


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "movie_mlops.models.algorithms.networks.neumf")
    with pytest.raises(ConfigurationError, match="make setup TORCH=1"):
        network_module("neumf")


def test_the_guides_loop(histories: TrainingHistories) -> None:
    create_model, count_parameters = movie_mlops.create_model, movie_mlops.count_parameters
    train_loader, validation_loader = data_loaders(histories, batch_size=256)
    torch.manual_seed(0)
    model = create_model(
        "neural_cf",
        {
            "num_users": train_loader.num_users,
            "num_movies": train_loader.num_movies,
            "embedding_dim": 16,
            "hidden_dims": [32, 16],
            "dropout_rate": 0.1,
        },
    )
    assert count_parameters(model) == 2 * 16 * (80 + FILMS) + 33 * 32 + 33 * 16 + 33
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    criterion = nn.MSELoss()
    epoch_losses = []
    for _ in range(6):
        model.train()
        total = 0.0
        for user_ids, movie_ids, ratings in train_loader:
            optimizer.zero_grad()
            predictions = model(user_ids.to(device), movie_ids.to(device))
            assert predictions.shape == ratings.shape
            loss = criterion(predictions, ratings.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        epoch_losses.append(total / len(train_loader))
    assert epoch_losses[-1] < 0.8 * epoch_losses[0]
    model.eval()
    with torch.no_grad():
        users, movies, _ = next(iter(validation_loader))
        assert torch.isfinite(model(users.to(device), movies.to(device))).all()


def test_loaders_draw_films_that_were_not_watched(histories: TrainingHistories) -> None:
    train, validation = data_loaders(histories, batch_size=100, negatives=3, seed=1)
    watched = {(user, int(film)) for user in range(80) for film in histories.of(user)}
    seen: set[tuple[int, int]] = set()
    for loader, positives in ((train, len(histories.items) - 80), (validation, 80)):
        pairs = []
        for users, movies, labels in loader:
            assert users.dtype == movies.dtype == torch.int64
            assert labels.dtype == torch.float32
            assert len(users) <= 100
            pairs += list(zip(users.tolist(), movies.tolist(), labels.tolist(), strict=True))
        assert all(((user, film) in watched) == (label == 1) for user, film, label in pairs)
        assert sum(label for _, _, label in pairs) == positives
        assert len(pairs) == pytest.approx(4 * positives, rel=0.01)
        assert -(-len(pairs) // 100) <= len(loader)
        seen |= {(user, film) for user, film, label in pairs if label}
    assert seen == watched


def test_wrong_names_and_settings_of_networks_are_named() -> None:
    with pytest.raises(ConfigurationError, match="no_such"):
        movie_mlops.create_model("no_such", {})
    with pytest.raises(ConfigurationError, match="num_users"):
        movie_mlops.create_model("neural_cf", {})


def test_numpy_scores_are_the_trained_networks(histories: TrainingHistories) -> None:
    """With a user's own embedding in place of the folded one, NumPy gives the network's scores."""
    network = neumf.train(histories, {"embedding_dim": 8}, neumf.Plan(epochs=1), 1, lambda *_: None)
    on_device = neumf.NeuMFOnDevice(network.to_arrays(), "cpu")
    with torch.no_grad():
        expected = network(torch.full((FILMS,), 3), torch.arange(FILMS)).numpy()
    user = network.user_vectors()[[3]]
    found = on_device.scores(user, np.arange(FILMS))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
