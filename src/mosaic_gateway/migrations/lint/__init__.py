"""Static checks of migration files: rules over PostgreSQL's own parse tree."""
