"""What is live: one row per model name, changed only by compare-and-swap."""
