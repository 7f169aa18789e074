"""The key-value adapter: JSON documents in named collections, with a bundle of its own."""
