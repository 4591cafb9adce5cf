"""The three asyncio programs of the book as they were designed: exhibits, not hardened."""
