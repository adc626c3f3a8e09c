"""LNMT: from raw data to a model server that looks after itself."""

__version__ = "0.1.0"
