"""Versioned objects with watch."""
