"""Parts of the jobs page."""
