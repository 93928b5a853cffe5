"""The body of every error (RFC 9457)."""

from pydantic import BaseModel, Field


class Cause(BaseModel):
    """One thing that is wrong with a request."""

    where: str
    message: str


class Problem(BaseModel):
    """What is wrong, and in `detail` what to do."""

    type: str = Field(examples=["urn:movie-mlops:problem:movie-not-found"])
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Cause] | None = None
