"""The routes of the HTTP API, a module for each group of endpoints; `app.create_app` connects them."""
