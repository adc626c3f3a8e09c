"""Great Expectations as one function: a pandas frame and rules in, outcomes out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lnmt.data.validation.rules import Rule

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """What one expectation found in one frame."""

    success: bool
    failing: tuple[int, ...]  # index values of the rows that failed; empty for expectations on whole columns
    observed: object  # what Great Expectations calls the observed value; None for row rules


class Expectations:
    """An ephemeral Great Expectations context: nothing on disk, nothing sent, no progress bars.

    The whole row level goes through it: eight expectations on 50,000 rows take 0.1 s (2 µs a row), and memory does
    not grow from batch to batch.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports deprecated parts of the standard library
            import great_expectations
            from great_expectations.data_context.types.base import ProgressBarsConfig

        self.version: str = great_expectations.__version__
        self._gx = great_expectations
        context = great_expectations.get_context(mode="ephemeral")
        context.enable_analytics(False)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = context.data_sources.add_pandas("lnmt")
        self._batches = source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("frame")

    def suite(self, name: str, rules: Sequence[Rule]) -> Any:
        """A suite of the rules, for `judge`."""
        expectations = self._gx.expectations
        return self._gx.ExpectationSuite(
            name=name,
            expectations=[
                getattr(expectations, rule.expectation)(column=rule.column, meta={"rule": rule.name}, **rule.arguments)
                for rule in rules
            ],
        )

    def judge(self, frame: pd.DataFrame, suite: Any) -> dict[str, Outcome]:
        """Outcomes by rule name. An expectation that raises is an error, never a pass."""
        batch = self._batches.get_batch(batch_parameters={"dataframe": frame})
        results = batch.validate(
            suite,
            result_format={
                "result_format": "COMPLETE",
                "return_unexpected_index_query": False,
                "partial_unexpected_count": 0,
            },
        )
        outcomes: dict[str, Outcome] = {}
        for one in results.results:
            name = one.expectation_config.meta["rule"]
            problem = _exception(one.exception_info)
            if problem is not None:
                raise RuntimeError(f"Great Expectations could not judge {name!r}: {problem}")
            failing = one.result.get("unexpected_index_list") or ()
            outcomes[name] = Outcome(bool(one.success), tuple(failing), one.result.get("observed_value"))
        assert len(outcomes) == len(suite.expectations), "two rules share a name"
        return outcomes


def _exception(info: dict[str, Any]) -> str | None:
    """The message of an exception that Great Expectations caught; it nests them by metric or not at all."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return None
