"""The key store: API keys, encrypted; where their key-encryption key comes from."""
