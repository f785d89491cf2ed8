"""A page to look and to listen: the table, and the clips of all rows side by side."""
