"""Parts of the pages on feeds and instruments."""
