"""Texts of many requests → batches for one engine: fair between principals, bounded, in rows of like length."""
