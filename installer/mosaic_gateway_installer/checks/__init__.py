"""The checks of ``doctor`` and, in ``preflight``, those of ``install``: one module for each family of checks."""
