"""The benchmark: this service and its peers, alternating on one Postgres. `make bench` runs it."""
