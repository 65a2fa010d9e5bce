"""The pages of the app, one file per page; app.py lists them."""
