"""What an installation is on disk, beyond the places in its home."""
