"""The whole product in one run: `make demo`. Read `__main__.py` from top to bottom."""
