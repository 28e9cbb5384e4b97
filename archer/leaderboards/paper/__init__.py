"""Result tables: published numbers beside measured ones, and the noise of both."""
