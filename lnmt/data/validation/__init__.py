"""What `validate` is made of: rules, the Great Expectations session that judges them, the scan, the page."""
