"""The provider `websocket`: prices over WebSocket, with a mapping for the provider's messages."""
