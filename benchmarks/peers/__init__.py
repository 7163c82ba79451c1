"""What is measured: each module here is a process of its own, started by a family. None is imported by another."""
