"""What stands before the pages: sign-in, sessions, security headers, health. Streamlit runs behind it, in one process.

`python -m front --home HOME --port PORT` serves all of it; routes.py says what there is besides Streamlit's own.
"""
