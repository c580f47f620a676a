"""The API of the participant service, by version."""
