"""Key-value storage: JSON documents in named collections, with its own migration bundle."""
