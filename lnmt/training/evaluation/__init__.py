"""Stage `evaluate`, task by task: how a model's answers become the rows of its metrics, and what is shown of them."""
