"""What a worker logs, counts and traces."""
