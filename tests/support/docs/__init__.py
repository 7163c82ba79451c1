"""Run the code blocks of the documentation."""
