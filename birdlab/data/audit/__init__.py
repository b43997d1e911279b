"""The audit of a table: leaks, support, recordists, files, and what to do about them."""
