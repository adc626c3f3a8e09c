"""Answers that were given before: in the memory of a worker, or in a Redis that workers share.

A kept answer is one text's prediction by one bundle, nothing of a request: each request that it
answers has an id and an event of its own.
"""

from __future__ import annotations

from lnmt.serving.cache.response import CacheEvent, ResponseCache, cache_key
from lnmt.serving.cache.single_flight import SingleFlight

__all__ = ["CacheEvent", "ResponseCache", "SingleFlight", "cache_key"]
