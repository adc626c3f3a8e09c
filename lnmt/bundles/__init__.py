"""A model in one directory, stored by content: the unit that is registered, released and traced."""

from lnmt.bundles.bundle import Bundle, new_bundle
from lnmt.bundles.manifest import Draft, Lineage, Manifest
from lnmt.bundles.store import BundleStore

__all__ = ["Bundle", "BundleStore", "Draft", "Lineage", "Manifest", "new_bundle"]
