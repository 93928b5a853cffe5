"""Bodies of the Open Inference Protocol v2, as its specification writes them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
_EXAMPLE: JsonDict = {
    "id": "42",
    "inputs": [
        {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["user_3", "user_7"]},
        {"name": "k", "shape": [1], "datatype": "INT32", "data": [5]},
    ],
}
Parameters = dict[str, bool | int | float | str]


class ServerOut(BaseModel):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorOut(BaseModel):
    """One input or output; -1 in `shape` stands for any length."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelOut(BaseModel):
    """A model and what it takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorOut]
    outputs: list[TensorOut]


class ModelsOut(BaseModel):
    """The models that this server knows."""

    models: list[str]


class ModelReadyOut(BaseModel):
    """Whether the model can answer."""

    name: str
    ready: bool


class TensorIn(BaseModel):
    """One input; `data` is flat or nested, in row-major order, null where a value is unknown."""

    name: str = Field(max_length=100)
    shape: list[int] = Field(max_length=8)
    datatype: str = Field(max_length=20)
    parameters: dict[str, Any] | None = None
    data: list[Any] = Field(max_length=10_000)


class WantedOutput(BaseModel):
    """An output that is wanted; all are without any."""

    name: str = Field(max_length=100)
    parameters: dict[str, Any] | None = None


class InferIn(BaseModel):
    """Tensors to answer for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str | None = Field(None, max_length=128)
    parameters: dict[str, Any] | None = None
    inputs: list[TensorIn] = Field(max_length=20)
    outputs: list[WantedOutput] | None = Field(None, max_length=20)


class TensorAnswer(BaseModel):
    """One output, `data` flat in row-major order."""

    name: str
    shape: list[int]
    datatype: Datatype
    parameters: Parameters | None
    data: list[Any]


class InferOut(BaseModel):
    """The answer; `parameters` name the data snapshot behind the model."""

    model_name: str
    model_version: str
    id: str
    parameters: Parameters | None
    outputs: list[TensorAnswer]
