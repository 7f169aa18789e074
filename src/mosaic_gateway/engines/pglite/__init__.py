"""The engine ``pglite``: PostgreSQL in WebAssembly, in one Node.js process that we supervise."""
