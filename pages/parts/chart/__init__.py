"""Parts of the pages with charts."""
