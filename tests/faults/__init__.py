"""What faults do to the service: none of them may lose, double or reorder a write. `make faults` runs them all."""
