"""The live page: its web server, its content, and access to it."""
