"""The frameworks' own test suites, run over our stores. They are fetched, never committed."""
