"""`serve`, `release` and `monitor`: what is done with a model that is live."""

from __future__ import annotations

from lnmt.params.section import Count, Plugin, Positive, Section, Share


class ServeParams(Section):
    postprocessors: list[Plugin]


class ReleaseParams(Section):
    share: Share
    min_requests: Count
    min_requests_rollback: Count
    max_error_share: Share


class MonitorParams(Section):
    min_rows: Count
    window_rows: Count | None
    drift_share: Share
    distance: Positive
    domain_auc: Share
    seed: int
