"""The expectations on the whole table, made from what the scan counted."""

from __future__ import annotations

import difflib

from lnmt.data.validation.rules import TableRule
from lnmt.data.validation.scan import Scan
from lnmt.params import ValidateParams


def table_rules(scan: Scan, params: ValidateParams) -> list[TableRule]:
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
                fix=_quarantine_fix(scan, params),
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
    return rules + (_good_row_rules(scan, params) if good else [])


def _good_row_rules(scan: Scan, params: ValidateParams) -> list[TableRule]:
    good, counts = scan.tally.rows, scan.tally.labels
    present = [label for label in params.labels if counts[label]]
    balance = "add rows of the rare labels, or change validate.min_label_share and max_label_share in params.yaml"
    rules = [
        TableRule(
            "different labels",
            "labels",
            len(present),
            fix="a classifier needs two: check ingest.sources columns.label and bins in params.yaml",
            at_least=2,
            headline=f"every row that passed is labelled {present[0]!r}",
        )
    ]
    rules += [
        TableRule(
            f"share of label {label}",
            f"label_share_{place}",
            counts[label] / good,
            fix=balance,
            at_least=params.min_label_share,
            at_most=params.max_label_share,
            share=True,
        )
        for place, label in enumerate(params.labels)
    ]
    rules.append(
        TableRule(
            "duplicate share",
            "duplicate_share",
            scan.repeated_texts / good,
            fix="remove the copies at the source, or raise validate.max_duplicate_share in params.yaml "
            "(process keeps the first of each)",
            at_most=params.max_duplicate_share,
            share=True,
        )
    )
    rules.append(
        TableRule(
            "repeated ids",
            "repeated_ids",
            scan.repeated_ids,
            fix="name a column of unique values in ingest.sources columns.id, or null to number the rows",
            at_most=0,
        )
    )
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


def _quarantine_fix(scan: Scan, params: ValidateParams) -> str:
    reasons = ", ".join(f"{name} ({rows:,} rows)" for name, rows in scan.reasons.most_common(3))
    fix = f"look at data/quarantine: {reasons}" if reasons else "raise validate.max_quarantined_share"
    if scan.foreign_labels:
        found = ", ".join(f"{label!r} ({rows:,})" for label, rows in scan.foreign_labels.most_common(5))
        near = [
            f"{label!r} for {close[0]!r}"
            for label, _ in scan.foreign_labels.most_common(5)
            if (close := difflib.get_close_matches(label, params.labels, n=1, cutoff=0.6))
        ]
        fix += f"; labels found that validate.labels lacks: {found}"
        fix += f"; perhaps {', '.join(near)}" if near else ""
    return f"{fix}; mend the source or the rule in params.yaml: validate"
