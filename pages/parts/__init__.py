"""The parts of pages, one folder or module per kind of page, and the parts that several kinds share."""
