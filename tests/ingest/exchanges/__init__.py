"""Stand-ins for providers: real WebSocket and HTTP servers on loopback that speak each one's wire format."""
