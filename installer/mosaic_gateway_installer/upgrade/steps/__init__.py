"""The steps of an upgrade."""
