"""Runs the code blocks of the pages."""
