"""The reference that a bundle carries. `lnmt.runtime.profile.reference_profile` makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.profile import PROFILE, reference_profile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_reference", "reference_profile"]


def read_reference(bundle: Bundle) -> pd.DataFrame:
    """The bundle's profile. Raises LnmtError for a bundle without one, such as models/trained."""
    import pyarrow.parquet as pq

    if PROFILE not in bundle.manifest.files:
        raise LnmtError(
            "the bundle carries no reference profile",
            where=bundle.path,
            value=bundle.digest,
            allowed=f"a bundle with {PROFILE}, such as models/reference or models/optimized",
            fix="monitor a bundle that `lnmt optimize` made",
        )
    table = pq.read_table(bundle.file(PROFILE))
    if table.num_rows == 0:
        raise LnmtError("the reference profile has no rows", where=bundle.file(PROFILE), fix="run lnmt optimize again")
    frame: pd.DataFrame = table.to_pandas()
    return frame
