"""Runs every variant of the services side by side."""
