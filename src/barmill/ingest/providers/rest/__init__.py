"""The provider `rest`: prices by polling over HTTP, with a mapping for the responses."""
