"""The code that runs with user id 0, for an installation that is owned by another account."""
