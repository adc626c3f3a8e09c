"""From any source to validated, split Parquet tables."""
