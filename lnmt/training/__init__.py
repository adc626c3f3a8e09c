"""Training: our own loop in plain PyTorch, its checkpoints, and what is measured on the model afterwards."""
