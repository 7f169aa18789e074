"""The running gateway: its HTTP application, and the process that starts engine, schema and HTTP server."""
