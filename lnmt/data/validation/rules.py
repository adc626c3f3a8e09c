"""The expectations that `params.yaml: validate` asks for, as data: on each row, and on the whole table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnmt.data.labels import BROKEN_ORDER, MALFORMED, MISCOUNTED, NO_NUMBER, UNKNOWN, UNKNOWN_TAG
from lnmt.data.validation.features import CHARACTERS, LABEL_PROBLEM, LETTER_SHARE, REPLACEMENT_SHARE
from lnmt.params import ValidateParams
from lnmt.types import ID, LABEL, TEXT, Task


@dataclass(frozen=True)
class Rule:
    """One Great Expectations expectation."""

    name: str
    column: str
    expectation: str  # class of great_expectations.expectations
    arguments: dict[str, Any]
    allowed: str  # for people
    reason: str = ""  # of a row that fails it


def schema_rules(columns: Sequence[str]) -> list[Rule]:
    """The columns that must exist, and that all hold strings."""
    required = (ID, TEXT, LABEL)
    exist = [Rule(f"column {name}", name, "ExpectColumnToExist", {}, "present") for name in required]
    types = [
        Rule(f"type of {name}", name, "ExpectColumnValuesToBeOfType", {"type_": "str"}, "str")
        for name in dict.fromkeys((*required, *columns))
        if name in columns
    ]
    return [*exist, *types]


def row_rules(params: ValidateParams, task: Task) -> list[Rule]:
    """Rules that quarantine single rows. Nulls fail those of presence alone."""

    def between(name: str, reason: str, column: str, allowed: str, **bounds: float) -> Rule:
        return Rule(name, column, "ExpectColumnValuesToBeBetween", bounds, allowed, reason)

    letters, damage = params.min_letter_share, params.max_replacement_share
    shortest, longest = params.min_characters, params.max_characters
    characters = "of the characters"
    return [
        _present(ID),
        _present(TEXT),
        *_label_rules(list(params.labels or ()), task),
        between("long enough", "text too short", CHARACTERS, f"at least {shortest:,} characters", min_value=shortest),
        between("short enough", "text too long", CHARACTERS, f"at most {longest:,} characters", max_value=longest),
        between(
            "enough letters", "too few letters", LETTER_SHARE, f"at least {letters:.1%} {characters}", min_value=letters
        ),
        between(
            "intact encoding",
            "signs of a wrong encoding",
            REPLACEMENT_SHARE,
            f"at most {damage:.1%} {characters}",
            max_value=damage,
        ),
    ]


def _present(column: str) -> Rule:
    return Rule(f"{column} present", column, "ExpectColumnValuesToNotBeNull", {}, "not null", f"{column} missing")


def _label_rules(labels: list[str], task: Task) -> list[Rule]:
    """Rules on the label: one for each thing that can be wrong with it in this task."""
    allowed = ", ".join(labels)

    def without(name: str, reason: str, what: str) -> Rule:
        return Rule(name, LABEL_PROBLEM, "ExpectColumnValuesToNotBeInSet", {"value_set": [reason]}, what, reason)

    if task == "text-generation":
        return []
    if task == "text-classification":
        inside = {"value_set": labels}
        return [
            _present(LABEL),
            Rule("label in the set", LABEL, "ExpectColumnValuesToBeInSet", inside, allowed, UNKNOWN),
        ]
    if task == "text-regression":
        return [_present(LABEL), without("number", NO_NUMBER, "a finite number")]
    listed = without("names", MALFORMED, "names, or a JSON list of names")
    if task == "multi-label-classification":
        return [_present(LABEL), listed, without("labels in the set", UNKNOWN, allowed)]
    return [
        _present(LABEL),
        listed,
        without("tags in the set", UNKNOWN_TAG, allowed),
        without("a tag for each word", MISCOUNTED, "as many tags as words"),
        without("tags in BIO order", BROKEN_ORDER, "I-X after B-X or I-X alone"),
    ]


@dataclass(frozen=True)
class TableRule:
    """One figure of the whole table, with its bounds."""

    name: str
    column: str  # of the one-row table of aggregates
    observed: float
    fix: str
    at_least: float | None = None
    at_most: float | None = None
    share: bool = False
    headline: str = ""  # what failing it is called, where the name and figure do not say it best

    @property
    def rule(self) -> Rule:
        """The same as an expectation on the aggregates."""
        bounds = {"min_value": self.at_least, "max_value": self.at_most}
        arguments = {key: value for key, value in bounds.items() if value is not None}
        return Rule(self.name, self.column, "ExpectColumnValuesToBeBetween", arguments, self.allowed)

    @property
    def value(self) -> str:
        """The observed figure for people."""
        return self._show(self.observed)

    @property
    def allowed(self) -> str:
        """The bounds for people."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self._show(self.at_least)} … {self._show(self.at_most)}"
        if self.at_most is not None:
            return f"at most {self._show(self.at_most)}"
        return f"at least {self._show(self.at_least or 0)}"

    def _show(self, number: float) -> str:
        return f"{number:.2%}" if self.share else f"{number:,.0f}"
