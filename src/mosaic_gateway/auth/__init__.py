"""Authentication: users, passwords, sessions and cookies, in better-auth's formats."""
