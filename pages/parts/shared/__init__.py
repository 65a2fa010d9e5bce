"""Parts that several kinds of pages share."""
