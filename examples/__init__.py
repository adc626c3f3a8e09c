"""Runnable examples; tests run them."""
