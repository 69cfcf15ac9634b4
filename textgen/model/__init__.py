"""Loading, adapters, loss."""
