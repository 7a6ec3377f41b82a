"""A shop whose orders are answered by a model."""
