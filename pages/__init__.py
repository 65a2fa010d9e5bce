"""The pages of the app, one file each; app.py says which there are."""
