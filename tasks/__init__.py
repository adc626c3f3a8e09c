"""Prefect tasks: retries, timeouts, tags, progress and artifacts around what `lnmt` does; no logic of their own."""
