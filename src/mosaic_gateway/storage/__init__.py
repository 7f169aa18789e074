"""Key-value storage: JSON documents in named collections, with its own migration bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.storage.documents import DocumentStore
else:
    __getattr__ = lazy_names(
        __name__,
        documents="DocumentStore",
    )

__all__ = ["DocumentStore"]
