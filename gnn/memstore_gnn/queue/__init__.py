"""Which queries to label next."""
