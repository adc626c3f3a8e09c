"""`params.yaml` as types: frozen, nothing unknown allowed, no default in code.

The file that ships with LNMT is the one home of the defaults; `lnmt init` copies it.
"""

from __future__ import annotations

from lnmt.params.data import ProcessParams, SplitShares, ValidateParams
from lnmt.params.ingest import (
    Bin,
    Columns,
    Csv,
    DatabaseSource,
    FileItem,
    FilesSource,
    HttpSource,
    HubDataSource,
    IngestParams,
    Source,
)
from lnmt.params.judge import EvaluateParams, Gate
from lnmt.params.live import MonitorParams, ReleaseParams, ServeParams
from lnmt.params.load import Params, load_params, parse_params
from lnmt.params.optimize import Budget, EngineSettings, FineTune, Objective, OptimizeParams
from lnmt.params.section import Plugin, Section
from lnmt.params.train import LoraParams, TrainParams
from lnmt.params.tune import Choices, Range, TuneParams, WholeRange

__all__ = [
    "Bin",
    "Budget",
    "Choices",
    "Columns",
    "Csv",
    "DatabaseSource",
    "EngineSettings",
    "EvaluateParams",
    "FileItem",
    "FilesSource",
    "FineTune",
    "Gate",
    "HttpSource",
    "HubDataSource",
    "IngestParams",
    "LoraParams",
    "MonitorParams",
    "Objective",
    "OptimizeParams",
    "Params",
    "Plugin",
    "ProcessParams",
    "Range",
    "ReleaseParams",
    "Section",
    "ServeParams",
    "Source",
    "SplitShares",
    "TrainParams",
    "TuneParams",
    "ValidateParams",
    "WholeRange",
    "load_params",
    "parse_params",
]
