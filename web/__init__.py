"""The web server around Streamlit: sign-in, sessions, security headers, health checks, bars over HTTP."""
