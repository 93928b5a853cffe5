"""Neural collaborative filtering (NeuMF, He et al. 2017) in PyTorch, its data and its training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from movie_mlops.models.algorithms.base import Arrays, IntArray, Progress, TrainingHistories
from movie_mlops.models.algorithms.networks.devices import choose_device, computing_on

_REDRAWS = 5  # of negatives that are positives; what is left after them is rare


class NeuMF(nn.Module):  # type: ignore[misc]  # PyTorch is not followed
    """A score per pair: product of two embeddings (GMF) beside layers over two others (MLP)."""

    def __init__(
        self,
        num_users: int,
        num_movies: int,
        embedding_dim: int = 32,
        hidden_dims: Sequence[int] = (64, 32, 16),
        dropout_rate: float = 0.2,
    ) -> None:
        super().__init__()
        self.users = nn.Embedding(num_users, embedding_dim)
        self.movies = nn.Embedding(num_movies, embedding_dim)
        self.users_mlp = nn.Embedding(num_users, embedding_dim)
        self.movies_mlp = nn.Embedding(num_movies, embedding_dim)
        for table in (self.users, self.movies, self.users_mlp, self.movies_mlp):
            nn.init.normal_(table.weight, std=0.05)
        widths = [2 * embedding_dim, *hidden_dims]
        self.layers = nn.ModuleList(nn.Linear(here, there) for here, there in pairwise(widths))
        self.dropout = nn.Dropout(dropout_rate)
        self.output = nn.Linear(embedding_dim + widths[-1], 1)

    def forward(self, user_ids: Tensor, movie_ids: Tensor) -> Tensor:
        """Scores [B] of int64 user and film positions [B]: ratings or log-odds, as trained."""
        x = torch.cat([self.users_mlp(user_ids), self.movies_mlp(movie_ids)], dim=-1)
        for layer in self.layers:
            x = self.dropout(layer(x).relu())
        product = self.users(user_ids) * self.movies(movie_ids)
        score: Tensor = self.output(torch.cat([product, x], dim=-1)).squeeze(-1)
        return score

    def to_arrays(self) -> Arrays:
        """All weights but the users': `movies`, `movies_mlp`, `output`, `layer0`, `bias0`, ..."""
        arrays: Arrays = {
            "movies": _array(self.movies.weight),
            "movies_mlp": _array(self.movies_mlp.weight),
            "output": _array(self.output.weight[0]),
            "output_bias": _array(self.output.bias),
        }
        for number, layer in enumerate(self.layers):
            arrays[f"layer{number}"] = _array(layer.weight)
            arrays[f"bias{number}"] = _array(layer.bias)
        return arrays

    def user_vectors(self) -> NDArray[np.float32]:
        """Both embeddings of every user, [users, 2 x embedding_dim]."""
        return np.concatenate([_array(self.users.weight), _array(self.users_mlp.weight)], axis=1)


class InteractionLoader:
    """Batches of (user_ids, movie_ids, labels): positives 1, drawn films 0, anew in each pass.

    Ids are positions (int64 [B]), labels float32 [B]. A drawn film is one that the user has not
    in `histories`; `rows` are the positives' places in them, all when left out.
    """

    def __init__(
        self,
        histories: TrainingHistories,
        batch_size: int = 1_024,
        negatives: int = 4,
        seed: int = 42,
        rows: IntArray | None = None,
    ) -> None:
        self.num_users, self.num_movies = histories.user_count, histories.item_count
        self.batch_size, self.negatives = batch_size, negatives
        self._rng = np.random.default_rng(seed)
        owners = np.repeat(np.arange(self.num_users), np.diff(histories.indptr))
        keys = owners * self.num_movies + histories.items
        self._watched = np.unique(keys)
        self._keys = keys if rows is None else keys[rows]

    def __len__(self) -> int:
        return -(-len(self._keys) * (1 + self.negatives) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        keys = np.concatenate([self._keys, self._drawn()])
        labels = np.zeros(len(keys), np.float32)
        labels[: len(self._keys)] = 1
        order = self._rng.permutation(len(keys))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            users, movies = map(torch.from_numpy, np.divmod(keys[chosen], self.num_movies))
            yield users, movies, torch.from_numpy(labels[chosen])

    def _drawn(self) -> IntArray:
        """`negatives` films per positive as user x films + film."""
        users = np.repeat(self._keys // self.num_movies, self.negatives) * self.num_movies
        drawn = users + self._rng.integers(self.num_movies, size=len(users))
        for _ in range(_REDRAWS):
            wrong = np.flatnonzero(self._is_watched(drawn))
            if not len(wrong):
                break
            drawn[wrong] = users[wrong] + self._rng.integers(self.num_movies, size=len(wrong))
        return drawn[~self._is_watched(drawn)]

    def _is_watched(self, keys: IntArray) -> NDArray[np.bool_]:
        at = np.minimum(np.searchsorted(self._watched, keys), len(self._watched) - 1)
        found: NDArray[np.bool_] = self._watched[at] == keys
        return found


def data_loaders(
    histories: TrainingHistories, batch_size: int, negatives: int, seed: int
) -> tuple[InteractionLoader, InteractionLoader]:
    """Training and validation batches; validation has each user's last film, where there are two.

    Validation's negatives are films of neither part.
    """
    lengths = np.diff(histories.indptr)
    is_last = np.zeros(len(histories.items), bool)
    is_last[histories.indptr[1:][lengths > 1] - 1] = True
    return (
        InteractionLoader(histories, batch_size, negatives, seed, np.flatnonzero(~is_last)),
        InteractionLoader(histories, batch_size, negatives, seed + 1, np.flatnonzero(is_last)),
    )


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(of.numel() for of in model.parameters() if of.requires_grad)


@dataclass(frozen=True, slots=True)
class Plan:
    """How NeuMF is trained: sampled binary cross-entropy with Adam."""

    epochs: int = 10
    batch_size: int = 4_096
    negatives: int = 4
    rate: float = 1e-3
    weight_decay: float = 0.0
    threads: int = 1
    device: str | None = None


def train(
    histories: TrainingHistories, sizes: dict[str, Any], plan: Plan, seed: int, progress: Progress
) -> NeuMF:
    """A new network, trained; the mean loss of every epoch goes to `progress`."""
    device = choose_device(plan.device)
    with computing_on(device, plan.threads), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NeuMF(histories.user_count, histories.item_count, **sizes).to(device)
        adam = torch.optim.AdamW(
            model.parameters(), lr=plan.rate, weight_decay=plan.weight_decay, fused=True
        )
        loader = InteractionLoader(histories, plan.batch_size, plan.negatives, seed)
        for epoch in range(1, plan.epochs + 1):
            losses = []
            for batch in loader:
                users, movies, labels = (of.to(device) for of in batch)
                loss = functional.binary_cross_entropy_with_logits(model(users, movies), labels)
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
                losses.append(loss.detach())
            mean = torch.stack(losses).mean().item()
            progress(f"epoch {epoch} of {plan.epochs}, loss {mean:.4f}", epoch, plan.epochs)
    trained: NeuMF = model.cpu().eval()
    return trained


class NeuMFOnDevice:
    """Scores [users, films] of user vectors, in PyTorch; the weights are those of `to_arrays`."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], device: str | None = None) -> None:
        self._device = choose_device(device)
        kept = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        self._weights = {name: array.to(self._device) for name, array in kept.items()}
        self._count = sum(name.startswith("layer") for name in weights)

    def scores(self, users: NDArray[np.float32], films: IntArray) -> NDArray[np.float32]:
        """The network's scores."""
        with torch.inference_mode():
            return _array(self._scores(users, films))

    def _scores(self, users: NDArray[np.float32], films: IntArray) -> Tensor:
        weights = self._weights
        rows = torch.from_numpy(np.asarray(films)).to(self._device)
        product, mlp = torch.from_numpy(users).to(self._device).chunk(2, dim=1)
        movies = weights["movies_mlp"][rows]
        shape = (len(mlp), len(rows), movies.shape[1])
        x = torch.cat([mlp[:, None].expand(shape), movies.expand(shape)], dim=-1)
        for number in range(self._count):
            x = functional.linear(x, weights[f"layer{number}"], weights[f"bias{number}"]).relu()
        product = product[:, None] * weights["movies"][rows]
        score = torch.cat([product.expand(shape), x], dim=-1) @ weights["output"]
        return score + weights["output_bias"]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array
