"""`release` and `monitor`: what is done with live state."""

from __future__ import annotations

from lnmt.params.section import Count, Positive, Section, Share


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
