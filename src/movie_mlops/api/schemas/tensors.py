"""Tensors of the Open Inference Protocol: what each model takes and gives, and how it is read."""

from collections.abc import Callable
from typing import Any, NamedTuple

from movie_mlops.api.errors import InferenceInputError
from movie_mlops.api.schemas.open_inference import InferIn, TensorIn
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER

_MOST_ROWS = 200
_NUMBERS = frozenset({
    "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64",
})  # fmt: skip
_WHOLE = frozenset(name for name in _NUMBERS if not name.startswith("FP"))


class _Column(NamedTuple):
    """An input; `takes` are the datatypes, the first of which the metadata names."""

    takes: tuple[str, ...]
    is_needed: bool = True


_REAL = ("FP64", *sorted(_NUMBERS))
COLUMNS: dict[str, dict[str, _Column]] = {
    MOVIE_PREDICTOR: {
        "startYear": _Column(_REAL),
        "runtimeMinutes": _Column(_REAL),
        "numVotes": _Column(_REAL),
        "title": _Column(("BYTES",), is_needed=False),
        "genres": _Column(("BYTES",), is_needed=False),
    },
    MOVIE_RECOMMENDER: {
        "user_id": _Column(("BYTES", *sorted(_WHOLE))),
        "k": _Column(("INT32", *sorted(_WHOLE)), is_needed=False),
    },
}
OUTPUTS: dict[str, dict[str, tuple[str, list[int]]]] = {
    MOVIE_PREDICTOR: {
        "rating": ("FP64", [-1]),
        "low": ("FP64", [-1]),
        "high": ("FP64", [-1]),
        "in_range": ("BOOL", [-1]),
    },
    MOVIE_RECOMMENDER: {"movie_id": ("INT64", [-1, -1]), "score": ("FP64", [-1, -1])},
}


def read_columns(model: str, body: InferIn) -> dict[str, list[Any]]:
    """The data of every input by name.

    Raises:
        InferenceInputError: an input is unknown, missing, twice there, or does not fit its shape.
    """
    known, found = COLUMNS[model], dict[str, list[Any]]()
    for tensor in body.inputs:
        if tensor.name not in known or tensor.name in found:
            message = f"{model} takes each of {', '.join(known)} once, not {tensor.name[:80]!r}"
            raise InferenceInputError(message)
        if tensor.datatype not in known[tensor.name].takes:
            message = (
                f"invalid datatype {tensor.datatype[:80]!r} of {tensor.name}; "
                f"it takes {known[tensor.name].takes[0]}"
            )
            raise InferenceInputError(message)
        found[tensor.name] = _data(tensor)
    missing = [name for name, (_, is_needed) in known.items() if is_needed and name not in found]
    if missing:
        message = f"inputs of {model} are missing: {', '.join(missing)}"
        raise InferenceInputError(message)
    return found


def _data(tensor: TensorIn) -> list[Any]:
    """The flat data of a column [n] or [n, 1], each value of the datatype."""
    data = _flat(tensor.data)
    shape = tensor.shape
    if len(data) > _MOST_ROWS or shape not in ([len(data)], [len(data), 1]):
        message = (
            f"{tensor.name}: {len(data)} values do not fit the shape {shape}; "
            f"it is [n] or [n, 1], n at most {_MOST_ROWS}"
        )
        raise InferenceInputError(message)
    fits = _CHECKS.get(tensor.datatype, _is_number)
    if tensor.datatype in _WHOLE:
        fits = _is_whole
    if not all(value is None or fits(value) for value in data):
        message = f"{tensor.name}: not all values are {tensor.datatype}"
        raise InferenceInputError(message)
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[Any], bool]] = {"BYTES": lambda value: isinstance(value, str)}


def _flat(data: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in data:
        if isinstance(value, list):
            flat += value  # a deeper one is no value of any datatype
        else:
            flat.append(value)
    return flat
