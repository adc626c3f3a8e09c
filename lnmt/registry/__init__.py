"""Model versions in MLflow: what was made, from what, with which figures. Never the truth of what is live."""

from lnmt.registry.live import mirroring
from lnmt.registry.registry import Registry
from lnmt.registry.trials import log_trial
from lnmt.registry.version import Version

__all__ = ["Registry", "Version", "log_trial", "mirroring"]
