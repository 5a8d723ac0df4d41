"""Offline training doors: each parses a recipe and calls the trainer."""
