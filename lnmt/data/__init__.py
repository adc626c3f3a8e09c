"""From any source to validated, split Parquet tables; and `BaseProcessor`, for text processors of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.public import public_names

if TYPE_CHECKING:
    from lnmt.text.processors import BaseProcessor as BaseProcessor

__getattr__, __dir__, __all__ = public_names(__name__)
