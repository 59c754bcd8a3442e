"""Locations: where a memory is stored, its settings, and its open stores."""
