"""Libraries that an extra brings: imported when they are first needed, with a clear word where they are not there."""

from __future__ import annotations

from typing import Any

from safehold.model.errors import NotFound

__all__ = ["datasets", "polars", "torch_data"]


def polars() -> Any:
    """The Polars library, or ``NotFound`` (``readers.no_polars``)."""
    try:
        import polars as library  # noqa: ICN001 - one word for each library here
    except ImportError as error:
        raise NotFound("readers.no_polars", "Polars is not installed here", "pip install 'safehold[polars]'") from error
    return library


def datasets() -> Any:
    """Hugging Face's ``datasets``, or ``NotFound`` (``readers.no_datasets``)."""
    try:
        import datasets as library
    except ImportError as error:
        raise NotFound(
            "readers.no_datasets", "Hugging Face's datasets is not installed here", "pip install 'safehold[hf]'"
        ) from error
    return library


def torch_data() -> Any:
    """``torch.utils.data``, or ``NotFound`` (``readers.no_torch``)."""
    try:
        import torch.utils.data as library
    except ImportError as error:
        raise NotFound(
            "readers.no_torch",
            "PyTorch is not installed here",
            "install it; without workers the reader works without it",
        ) from error
    return library
