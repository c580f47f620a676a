"""HTTP: a thin JSON gateway that leads to the same servicer, in process."""
