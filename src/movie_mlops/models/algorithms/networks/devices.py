"""Where PyTorch computes: the device, and on the processor how many threads, deterministically."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic

from movie_mlops.domain.errors import ConfigurationError


def choose_device(name: str | None = None) -> torch.device:
    """The device of this name; None: a GPU when there is one, else the processor.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        message = f"PyTorch has no device {name!r} here: {error}"
        raise ConfigurationError(message) from error
    return device


@contextmanager
def computing_on(device: torch.device, threads: int) -> Iterator[None]:
    """With this many threads on the processor; one thread always gives the same bytes."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    filled = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = False  # costs a fifth; we read nothing unwritten
    # on a GPU it would need an environment variable that is set before the process starts
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        deterministic.fill_uninitialized_memory = filled
