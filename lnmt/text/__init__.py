"""What happens to a text before the model sees it; the same code in training and in serving."""
