"""Programs with which developers generate committed files: a page and the pictures of the docs, and Java classes."""
