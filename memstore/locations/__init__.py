"""Locations: where a memory is stored, its settings, and how its stores are opened."""
