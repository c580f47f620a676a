"""What operators see of the service: health, metrics and logs."""
