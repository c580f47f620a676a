"""Those who take part, each in a file of its own."""
