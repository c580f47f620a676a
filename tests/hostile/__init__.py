"""Callers who mean harm, or have broken: whatever they do, the service stays small and goes on answering others."""
