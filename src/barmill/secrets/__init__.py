"""The key store: encrypted API keys, and the sources of their key-encryption key."""
