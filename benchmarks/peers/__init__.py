"""Programs under measurement. Each module is run as a process by a family; none is imported by another."""
