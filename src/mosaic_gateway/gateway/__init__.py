"""The running gateway: the HTTP application, and the life cycle that joins it to engine and schema."""
