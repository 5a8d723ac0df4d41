"""Screens: one page, one file."""
