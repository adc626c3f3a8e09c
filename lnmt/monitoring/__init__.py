"""What the served model does, and whether it still does it well."""
