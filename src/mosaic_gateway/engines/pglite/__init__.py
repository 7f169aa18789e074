"""Engine ``pglite``: PostgreSQL in WebAssembly, in one supervised Node.js process."""
