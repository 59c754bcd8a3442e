"""Trainers: reward hooks for training frameworks."""
