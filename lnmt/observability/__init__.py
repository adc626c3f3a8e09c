"""What the running system says about itself: logs in one place, metrics in another. Never the text of requests."""
