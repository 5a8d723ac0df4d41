"""The tissue viewer."""
