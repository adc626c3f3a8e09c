"""From a trained model to the fastest engine that answers as it does: build candidates, measure, choose."""
