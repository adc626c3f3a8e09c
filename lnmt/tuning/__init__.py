"""Finding good parameters: batch size, learning rate, and a search over all of them."""
