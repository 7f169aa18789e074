"""What each verb of ``mosaic-gateway backup`` does."""
