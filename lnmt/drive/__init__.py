"""Runs stages through DVC, the one cache: for the `lnmt` command and for the Prefect tasks."""
