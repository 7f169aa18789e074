"""Who may come in: users, passwords, sessions and cookies, in the formats of better-auth."""
