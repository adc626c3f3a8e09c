"""The expectations on the whole table, made from what the scan counted."""

from __future__ import annotations

import difflib

from lnmt.data.validation.rules import TableRule
from lnmt.data.validation.scan import Scan
from lnmt.params import ValidateParams
from lnmt.types import Task


def table_rules(scan: Scan, params: ValidateParams, task: Task) -> list[TableRule]:
    """The rules in the order in which a person should hear of them; those on shares of nothing are left out."""
    good = scan.tally.rows
    rules = [
        TableRule(
            "rows in data/raw",
            "rows",
            scan.rows,
            fix="reports/ingest says what ingest read",
            at_least=1,
            headline="data/raw has no rows",
        )
    ]
    if scan.rows:
        rules.append(
            TableRule(
                "quarantined share",
                "quarantined_share",
                scan.quarantined / scan.rows,
                fix=_quarantine_fix(scan, params, task),
                at_most=params.max_quarantined_share,
                share=True,
                headline="" if good else "every row was quarantined",
            )
        )
    rules.append(
        TableRule(
            "rows that passed",
            "good_rows",
            good,
            fix="add data, or lower validate.min_rows in params.yaml",
            at_least=params.min_rows,
        )
    )
    return rules + ([*_label_rules(scan, params, task), *_good_row_rules(scan, params)] if good else [])


def _label_rules(scan: Scan, params: ValidateParams, task: Task) -> list[TableRule]:
    """Rules on how the labels are spread; a row counts for every label that it has."""
    if task == "text-generation":
        return []
    if task == "text-regression":
        numbers = scan.tally.numbers
        rule = TableRule(
            "different numbers",
            "numbers",
            numbers.different,
            fix="a regression needs numbers that differ: check ingest.sources columns.label in params.yaml",
            at_least=2,
            headline=f"every row that passed is labelled {numbers.minimum:g}",
        )
        return [rule]
    names = params.labels or []
    present = [name for name in names if scan.tally.labels[name]]
    if task == "text-classification":
        rule = TableRule(
            "different labels",
            "labels",
            len(present),
            fix="a classifier needs two: check ingest.sources columns.label and bins in params.yaml",
            at_least=2,
            headline=f"every row that passed is labelled {present[0]!r}",
        )
    elif task == "multi-label-classification":
        rule = TableRule(
            "different labels",
            "labels",
            len(present),
            fix="check ingest.sources columns.label in params.yaml",
            at_least=1,
            headline="no row that passed has a label",
        )
    else:
        rule = TableRule(
            "different tags",
            "tags",
            len(present),
            fix="a model of tags needs two: check ingest.sources columns.label in params.yaml",
            at_least=2,
            headline=f"every word that passed has the tag {', '.join(present)!r}",
        )
    return [rule, *_share_rules(scan, params, names, tags=task == "token-classification")]


def _share_rules(scan: Scan, params: ValidateParams, names: list[str], *, tags: bool) -> list[TableRule]:
    """The share of the rows that have each label; of a tag there may be one in every row, as of O there mostly is."""
    what, limits = ("rows with tag", "min_label_share") if tags else ("label", "min_label_share and max_label_share")
    return [
        TableRule(
            f"share of {what} {name}",
            f"label_share_{place}",
            scan.tally.labels[name] / scan.tally.rows,
            fix=f"add rows of the rare labels, or change validate.{limits} in params.yaml",
            at_least=params.min_label_share,
            at_most=None if tags else params.max_label_share,
            share=True,
        )
        for place, name in enumerate(names)
    ]


def _good_row_rules(scan: Scan, params: ValidateParams) -> list[TableRule]:
    good = scan.tally.rows
    rules = [
        TableRule(
            "duplicate share",
            "duplicate_share",
            scan.repeated_texts / good,
            fix="remove the copies at the source, or raise validate.max_duplicate_share in params.yaml "
            "(process keeps the first of each)",
            at_most=params.max_duplicate_share,
            share=True,
        ),
        TableRule(
            "repeated ids",
            "repeated_ids",
            scan.repeated_ids,
            fix="name a column of unique values in ingest.sources columns.id, or null to number the rows",
            at_most=0,
        ),
    ]
    looked_at = scan.scripts.total()
    if looked_at:
        script, most = scan.scripts.most_common(1)[0]
        rules.append(
            TableRule(
                "share in another script",
                "other_script_share",
                1 - most / looked_at,
                fix=f"most texts are written in {script}: take the others out, or raise "
                "validate.max_other_script_share in params.yaml",
                at_most=params.max_other_script_share,
                share=True,
            )
        )
    return rules


def _quarantine_fix(scan: Scan, params: ValidateParams, task: Task) -> str:
    reasons = ", ".join(f"{name} ({rows:,} rows)" for name, rows in scan.reasons.most_common(3))
    fix = f"look at data/quarantine: {reasons}" if reasons else "raise validate.max_quarantined_share"
    if scan.foreign_labels:
        found = ", ".join(f"{label!r} ({rows:,})" for label, rows in scan.foreign_labels.most_common(5))
        near = [
            f"{label!r} for {close[0]!r}"
            for label, _ in scan.foreign_labels.most_common(5)
            if (close := difflib.get_close_matches(label, params.labels or (), n=1, cutoff=0.6))
        ]
        lacking = "are no numbers" if task == "text-regression" else "validate.labels lacks"
        fix += f"; labels found that {lacking}: {found}"
        fix += f"; perhaps {', '.join(near)}" if near else ""
    return f"{fix}; mend the source or the rule in params.yaml: validate"
