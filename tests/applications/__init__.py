"""Applications that use the library, as others write them, and tests that run them."""
