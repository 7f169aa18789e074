"""The steps of an installation."""
